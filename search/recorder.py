"""What is noted of each trial while a search runs: its record on disk, its line on the screen, its run in MLflow."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from search.ends import TrialEnd
from search.folder import SearchFolder, TrialRecord
from search.lost_workers import Loss
from search.ranking import rank
from search.run_log import RunLog
from search.same_errors import SameErrors
from search.state import end_trial_run, epoch_metrics, start_trial_run
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.pulse import PULSE_FILE
from trainables.run import CHECKPOINT_FILE
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE


class Screen(Protocol):
    """Whatever shows a search to a person."""

    def trial_started(self, record: TrialRecord) -> None:
        """A trial was given to a worker."""

    def epoch(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """A trial has run an epoch."""

    def trial_ended(self, trial_id: str, end: TrialEnd, *, best_macro_f1: float | None = None, error: str = "") -> None:
        """A trial is over."""


class Recorder:
    """Keeps the records of a search. Weights, and latest epochs beside the best one, stay for the default and the
    `keep_weights` best trials alone; scores stay.

    The record on disk is always written first: it is what a killed search goes on from, and what the sampler's
    journal and MLflow have missed of it is made up for then.

    Args:
        folder: of the search.
        tracker: for MLflow.
        parent_key: of this launch.
        screen: for a person.
        keep_weights: of so many best trials.
        default: the space's default config, flat, of which names of runs say the differences.
        earlier: records of earlier launches.
        on_end: is told of a trial that has ended, and of all records.
    """

    def __init__(
        self,
        folder: SearchFolder,
        *,
        tracker: RunLog,
        parent_key: str,
        screen: Screen,
        keep_weights: int,
        default: Mapping[str, Any] | None = None,
        earlier: Sequence[TrialRecord] = (),
        on_end: Callable[[TrialRecord, list[TrialRecord]], None] = lambda *_: None,
    ) -> None:
        self.records: dict[str, TrialRecord] = {record.trial_id: record for record in earlier}
        self._running: set[str] = set()
        self._ends_written: set[str] = set()
        self.same_errors = SameErrors()
        self._weighty = [record for record in earlier if _may_lose_weights(record)]
        self._folder = folder
        self._tracker = tracker
        self._parent_key = parent_key
        self._screen = screen
        self._keep_weights = keep_weights
        self._default = default or {}
        self._on_end = on_end

    @property
    def search(self) -> str:
        """The search's name."""
        return self._folder.name

    def trial_started(self, record: TrialRecord) -> None:
        """A trial was given to a worker; one that runs already, to another worker."""
        if record.trial_id in self._running:
            return
        self._running.add(record.trial_id)
        self._ends_written.discard(record.trial_id)
        record.n_preempted += record.trial_id in self.records  # an earlier launch left it unfinished
        self.records[record.trial_id] = record
        self._folder.write_record(record)
        start_trial_run(self._tracker, record, parent_key=self._parent_key, default=self._default)
        self._screen.trial_started(record)

    def epoch(self, trial_id: str, report: Mapping[str, Any]) -> None:
        """A trial has run an epoch."""
        record = self.records[trial_id]
        record.end = report.get("end") or ("stopped" if report.get("done") else None)
        if record.end in ("failed", "preempted"):  # in an epoch that did not come to its end
            record.error = str(report.get("error", ""))
            self._folder.write_record(record)
            return
        record.add_epoch(report)
        self._folder.write_record(record)  # the last epoch and the end in one: a kill must not part them
        if record.end is not None:
            self._ends_written.add(trial_id)
        if record.epochs > self._tracker.last_step(trial_id):  # else it ran this epoch before its worker was lost
            self._tracker.log_epoch(trial_id, epoch_metrics(record.history[-1]), step=record.epochs)
        self._screen.epoch(trial_id, report)

    def is_running(self, trial_id: str) -> bool:
        """Whether a trial was given to a worker and has not ended."""
        return trial_id in self._running

    def worker_lost(self, trial_id: str, loss: Loss) -> None:
        """A trial's worker was lost. Of one that had not begun there is nothing to note."""
        if trial_id not in self._running:
            return
        record = self.records[trial_id]
        if loss.cause == "preempted":
            record.n_preempted += 1
        else:
            record.n_lost += 1
        self._tracker.set_tags(
            trial_id, {"affectune.n_preempted": record.n_preempted, "affectune.n_lost": record.n_lost}
        )

    def trial_ended(self, trial_id: str, end: TrialEnd, *, error: str = "") -> None:
        """A trial is over; the first word on its end counts. Where that can't be written, the trial is not over yet."""
        if trial_id not in self._running:
            return
        record = self.records[trial_id]
        if record.end is None:
            record.end, record.error = end, error
        if trial_id not in self._ends_written:
            self._folder.write_record(record)
        self._running.discard(trial_id)
        self.same_errors.note(record.end, record.error)
        end_trial_run(self._tracker, record)
        if record.end != "preempted":
            for name in (CHECKPOINT_FILE, PULSE_FILE):
                (self._folder.trial_dir(trial_id) / name).unlink(missing_ok=True)
        self._drop_weights(record)
        self._screen.trial_ended(trial_id, record.end, best_macro_f1=record.best_macro_f1, error=record.error)
        self._on_end(record, list(self.records.values()))

    def close_open_trials(self) -> list[TrialRecord]:
        """End what was still running, or waiting to go on, when the search ended."""
        for trial_id in sorted(self._running):
            self.trial_ended(trial_id, "preempted")
        waiting = [record for record in self.records.values() if record.end is None]
        for record in waiting:
            record.end = "preempted"
            self._folder.write_record(record)
        return [record for record in self.records.values() if record.end == "preempted"]

    def _drop_weights(self, ended: TrialRecord) -> None:
        """Weights of what is no longer among the best; `_weighty` are those that may have some."""
        self._weighty += [ended] if _may_lose_weights(ended) and ended not in self._weighty else []
        self._weighty = rank(self._weighty)
        for record in self._weighty[self._keep_weights :]:
            folder = self._folder.trial_dir(record.trial_id)
            for name in (WEIGHTS_FILE, HEAD_FILE):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / SNAPSHOTS_DIR, ignore_errors=True)
        del self._weighty[self._keep_weights :]


def _may_lose_weights(record: TrialRecord) -> bool:
    """Whether a trial's weights stay only while it is among the best: it has ended, and is not the default."""
    return record.end is not None and record.number > 0
