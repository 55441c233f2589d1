"""Tracking of a search: calls return at once, a journal keeps them, one thread sends them to MLflow.

A dead or slow server never stops or slows a trial and never raises into the search: what it missed waits in the journal
and is sent when it answers again, or by `replay`.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from search.ends import TrialEnd
from search.tracking_journal import Journal, read_identity
from search.tracking_records import param_texts, split_metrics, tag_texts
from search.tracking_server import check_server
from search.tracking_writer import RunWriter
from spaces.errors import TrackingError

RunEnd = TrialEnd | Literal["interrupted"]

RUN_STATUS: dict[RunEnd, str] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
    "preempted": "KILLED",
    "interrupted": "KILLED",
}
"""What MLflow calls an end; the tag `affectune.end` holds our word for it."""

CHUNK_LINES, ENOUGH_LINES = 500, 50
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
PROBE_S = 3.0
LONGEST_REST_S = 2.0
"""After sending, the thread rests as long as that took, or until enough lines wait: what comes meanwhile goes together,
in fewer requests."""

_log = logging.getLogger("affectune.tracking")


class Tracker:
    """Records one search from its driver process. Every method returns within milliseconds unless it says otherwise.

    Args:
        uri: `sqlite:///` and a path, or a server's `http(s)://` address.
        experiment: name of the search.
        journal_dir: folder of the journal, `storage/NAME/tracking`.
        artifact_root: where files go when `uri` is SQLite, `mlartifacts` beside it by default; a server decides itself.
        dataset: what all runs work on: its `name`, `digest`, `source_type`, `source` and `profile`, as MLflow has them.
        on_trouble: is told once per outage, and once when it is over, in a sentence, where a server was replaced, and
            once where it refuses something; by default the log.

    Raises:
        TrackingError: another process is writing the same journal.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        journal_dir: Path,
        *,
        artifact_root: Path | None = None,
        dataset: Mapping[str, str] | None = None,
        on_trouble: Callable[[str], None] = _log.warning,
    ) -> None:
        self._uri, self._experiment = uri, experiment
        self._dataset = dataset
        self._artifact_root = artifact_root
        self._say = on_trouble
        self._journal = Journal(journal_dir, experiment=experiment, uri=uri)
        keys = self._journal.keys()
        self._launches, self._known, self._started = keys.launches, keys.known, keys.unfinished
        self._last_step: dict[str, int] = keys.last_steps
        self._wake = threading.Condition()
        self._closing = self._poked = False
        self._n_flushing = 0
        self._failures = 0
        self._trouble: str | None = None
        self._journal_broken = False
        self._told_refusal = False
        self._thread = threading.Thread(target=self._work, name="affectune-tracking", daemon=True)
        self._thread.start()

    @property
    def experiment_id(self) -> str | None:
        """MLflow's number of the experiment, once the server has been reached."""
        return self._journal.progress.experiment_id

    @property
    def search_id(self) -> str:
        """The tag `affectune.search_id` of all runs of this search."""
        return self._journal.search_id

    @property
    def launch_key(self) -> str | None:
        """The parent key of the latest launch, of this process or an earlier one."""
        return self._launches[-1] if self._launches else None

    @property
    def trouble(self) -> str | None:
        """Why records are waiting, as a sentence; None while the server takes them."""
        return self._trouble

    def run_id(self, key: str) -> str | None:
        """MLflow's name of a run, once the server has been reached."""
        return self._journal.progress.runs.get(key)

    def is_known(self, key: str) -> bool:
        """Whether a run was opened under this key, by this process or an earlier one."""
        return key in self._known

    def unfinished(self) -> list[str]:
        """Keys that were started, by this process or one that died, and have not been ended."""
        return sorted(self._started)

    def last_step(self, key: str) -> int:
        """The latest epoch that was recorded of a run, by this process or an earlier one; 0 for none."""
        return self._last_step.get(key, 0)

    def start_search(
        self, *, name: str, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None
    ) -> str:
        """Open the parent run of this launch; returns its key: `search`, `search-2` for the next launch, and so on."""
        number = len(self._launches) + 1
        key = "search" if number == 1 else f"search-{number}"
        self._launches.append(key)
        self._start(key, parent=None, name=name, params=params, tags={"affectune.kind": "search", **(tags or {})})
        return key

    def show_views(self, key: str, views: Mapping[str, str]) -> None:
        """Keep views of the search's runs with its experiment, as `search_views` makes them; told of a launch's run."""
        self._append({"op": "views", "key": key, "views": dict(views)})

    def start_run(
        self,
        key: str,
        *,
        parent_key: str,
        name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the run of a trial (or, by the tag `affectune.kind`, of a bag or an ensemble).

        A key that was opened before, by this launch or an earlier one, goes on in its old run.
        """
        self._start(key, parent=parent_key, name=name, params=params, tags={"affectune.kind": "trial", **(tags or {})})

    def log_epoch(self, key: str, metrics: Mapping[str, Any], step: int) -> None:
        """Record an epoch's numbers. What is not finite becomes the tag `affectune.nonfinite`; words are left out."""
        self._last_step[key] = step
        finite, strange = split_metrics(metrics)
        if finite:
            self._append({"op": "metrics", "key": key, "step": int(step), "values": finite})
        if strange:
            text = ", ".join(f"{name} = {value}" for name, value in strange.items())
            self.set_tags(key, {"affectune.nonfinite": f"{text} at step {step}"})

    def log_summary(self, key: str, metrics: Mapping[str, Any]) -> None:
        """Record numbers of the whole run, such as `best/macro_f1`, at its last step: MLflow's table shows those."""
        self.log_epoch(key, metrics, step=self._last_step.get(key, 0))

    def set_tags(self, key: str, tags: Mapping[str, Any]) -> None:
        """Set or replace tags of a run."""
        self._append({"op": "tags", "key": key, "tags": tag_texts(tags)})

    def log_artifact(self, key: str, path: Path, artifact_path: str | None = None) -> None:
        """Store a file or folder with a run; it must stay in its place until it was sent."""
        self._append({"op": "artifact", "key": key, "path": str(path.absolute()), "folder": artifact_path})

    def end_run(self, key: str, end: RunEnd, note: str = "") -> None:
        """Close a run. `note` (an error's text) becomes the tag `affectune.note`."""
        self._started.discard(key)
        tags = {"affectune.end": end, **({"affectune.note": note} if note else {})}
        self._append({"op": "end", "key": key, "status": RUN_STATUS[end], "tags": tag_texts(tags)})

    def flush(self, timeout_s: float) -> int:
        """Wait until everything was sent, the server failed once more, or time is up; returns what still waits."""
        deadline = time.monotonic() + timeout_s
        with self._wake:
            failures, self._poked = self._failures, True
            self._n_flushing += 1
            self._wake.notify_all()
            try:
                self._wake.wait_for(
                    lambda: self._journal.n_waiting <= 0 or self._failures > failures or not self._thread.is_alive(),
                    timeout=max(0.0, deadline - time.monotonic()),
                )
            finally:
                self._n_flushing -= 1
        return self._journal.n_waiting

    def close(self, timeout_s: float = 10.0) -> int:
        """Send what can be sent, stop the thread and let go of the journal.

        Returns:
            how many operations still wait in it; where some do, that is said too.
        """
        waiting = self.flush(timeout_s) if self._thread.is_alive() else self._journal.n_waiting
        if waiting:
            advice = f"affectune resume {self._experiment} sends them"
            self._say(f"{waiting} records wait in {self._journal.folder}; {advice}")
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(timeout=1.0)
        self._journal.close()
        return waiting

    def _start(
        self, key: str, *, parent: str | None, name: str, params: Mapping[str, Any] | None, tags: Mapping[str, Any]
    ) -> None:
        operation: dict[str, Any] = {
            "op": "start",
            "key": key,
            "parent": parent,
            "name": name,
            "params": param_texts(params or {}),
            "tags": tag_texts(tags),
        }
        if self._dataset:
            operation["dataset"] = dict(self._dataset)
        if key in self._known:
            operation["again"] = True
        self._known.add(key)
        self._started.add(key)
        self._append(operation)

    def _append(self, operation: dict[str, Any]) -> None:
        try:
            self._journal.append({**operation, "t": int(time.time() * 1000)})
        except (OSError, ValueError) as error:
            if not self._journal_broken:
                self._journal_broken = True
                self._say(f"tracking journal can't be written, got {error}: {self._journal.path}; the search goes on")
            return
        with self._wake:
            self._wake.notify_all()

    def _work(self) -> None:
        """The thread: send what waits, sleep, and come back more slowly while the server is away."""
        writer: RunWriter | None = None
        while not self._closing:
            if self._journal.n_waiting <= 0:
                self._sleep(None)
                continue
            try:
                if writer is None or self._failures:
                    check_server(self._uri, timeout_s=PROBE_S)
                    writer = writer or RunWriter(self._uri, self._journal, artifact_root=self._artifact_root)
                    if not writer.recognise_server():
                        self._say("tracking server has lost what it had of this search; all of it is sent again")
                started_s = time.monotonic()
                self._send_chunk(writer)
                self._rest(time.monotonic() - started_s)
            except Exception as error:
                self._note_failure(error)
                self._sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures - 1, 10)))

    def _send_chunk(self, writer: RunWriter) -> None:
        operations, end, n_lines = self._journal.read(start=self._journal.progress.offset, max_lines=CHUNK_LINES)
        writer.apply(operations)
        self._tell_refusal()
        self._journal.sent(end=end, n_lines=n_lines)
        if self._trouble:
            self._say("tracking server answers again; what waited is being sent")
        with self._wake:
            self._failures, self._trouble = 0, None
            self._wake.notify_all()

    def _tell_refusal(self) -> None:
        """Once, as one record may be refused for what all others will be."""
        reason = self._journal.refused
        if reason and not self._told_refusal:
            self._told_refusal = True
            first = reason.strip().split("\n")[0]
            self._say(
                f"a record could not be stored, got {first}; the search goes on, what is refused is kept in "
                f"{self._journal.rejected_path}"
            )

    def _note_failure(self, error: Exception) -> None:
        text = str(error).strip().split("\n")[0]
        if not isinstance(error, TrackingError):
            text = f"tracking server could not take a record, got {type(error).__name__}: {text}"
        first = self._trouble is None
        with self._wake:
            self._failures, self._trouble = self._failures + 1, text
            self._wake.notify_all()
        if first and not self._closing:
            self._say(f"{text}; the search goes on, records wait in {self._journal.folder}")

    def _rest(self, sent_s: float) -> None:
        """After sending, unless somebody waits for it, or enough waits already."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._closing or self._n_flushing > 0 or self._journal.n_waiting >= ENOUGH_LINES,
                timeout=min(LONGEST_REST_S, sent_s),
            )

    def _sleep(self, seconds: float | None) -> None:
        """Until `seconds` are over or flush asks for another try; without a number, until there is something to do."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._closing or self._poked or (seconds is None and self._journal.n_waiting > 0),
                timeout=seconds,
            )
            self._poked = False


def replay(journal_dir: Path, uri: str | None = None, *, timeout_s: float = 600.0) -> int:
    """Send what a server has not got yet of a search's journal; each point is stored once, however often this is done.

    Args:
        journal_dir: `storage/NAME/tracking`.
        uri: the server; by default the last one used. A server that never saw the search gets all of it.
        timeout_s: give up after this long.

    Returns:
        operations that still wait; 0 when the server has everything.

    Raises:
        SearchError: there is no journal.
        TrackingError: the server does not answer, or the search is running.
    """
    identity = read_identity(journal_dir)
    uri = uri or str(identity["uri"])
    check_server(uri)
    return Tracker(uri, identity["experiment"], journal_dir).close(timeout_s)
