"""The journal of a search's tracking: every operation as a line on the local disk, and how far a server has them.

The journal outlives the process that wrote it, so what a server missed is sent later. What was sent is remembered per
server: the same journal can also be replayed in full to another one.
"""

import contextlib
import fcntl
import hashlib
import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from spaces.errors import SearchError, TrackingError
from trainables.line_file import LineFile
from trainables.outputs import write_text

OPERATIONS = "operations.jsonl"
IDENTITY = "identity.json"


class Journal:
    """One search's operations, appended by one process at a time.

    Raises:
        TrackingError: the folder is in use by another process, or can't be written.
    """

    def __init__(self, folder: Path, *, experiment: str, uri: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._guard = _lock_folder(folder)
        self._lock = threading.Lock()
        self.identity = _open_identity(folder, experiment=experiment, uri=uri)
        self.path, self.rejected_path = folder / OPERATIONS, folder / "rejected.jsonl"
        self._file, self._n_held = LineFile(self.path), 0
        self.progress = Progress(folder, uri=uri)
        self.size_at_opening = self.path.stat().st_size
        self.refused: str | None = None
        self.n_waiting = _count_lines(self.path, start=self.progress.offset)

    @property
    def search_id(self) -> str:
        """What tells this search from another of the same name on the same server."""
        return str(self.identity["search_id"])

    def append(self, operation: Mapping[str, Any]) -> None:
        """Write one operation; it is out of this process's hands when this returns.

        Raises:
            OSError: the disk is full or gone; the operation is written with the next one, or when the journal closes.
        """
        line = json.dumps(operation, separators=(",", ":")) + "\n"
        with self._lock:
            self._file.hold(line)
            self._n_held += 1
            self._file.flush()
            self.n_waiting += self._n_held
            self._n_held = 0

    def read(self, *, start: int, max_lines: int) -> tuple[list[dict[str, Any]], int, int]:
        """Complete lines from byte `start` on.

        Returns:
            the operations (a torn line left by a crash is skipped), the byte after the last line, lines taken.
        """
        operations, end, n_lines = [], start, 0
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n") or n_lines == max_lines:
                    break
                end += len(line)
                n_lines += 1
                operations += _parse(line)
        return operations, end, n_lines

    def sent(self, *, end: int, n_lines: int) -> None:
        """Remember that everything before byte `end` has reached the server."""
        self.progress.advance(end)
        with self._lock:
            self.n_waiting = max(0, self.n_waiting - n_lines) if n_lines else 0

    def forget_sent(self) -> None:
        """Take it that the server has nothing yet, and knows no key."""
        self.progress.forget()
        with self._lock:
            self.n_waiting = _count_lines(self.path, start=0)

    def keys(self) -> "Keys":
        """Which runs the journal opened and ended so far, and how far their numbers go."""
        keys = Keys()
        with self.path.open("rb") as file:
            for line in file:
                if line.startswith((b'{"op":"start"', b'{"op":"end"', b'{"op":"metrics"')):
                    for operation in _parse(line):
                        keys.note(operation)
        return keys

    def reject(self, operation: Mapping[str, Any], reason: str) -> None:
        """Keep aside what the server will never take, with its reason; `refused` is the first one of this process."""
        self.refused = self.refused or reason
        with contextlib.suppress(OSError), self.rejected_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reason": reason, **operation}) + "\n")

    def close(self) -> None:
        """Let another process have the journal."""
        with contextlib.suppress(OSError):
            self._file.flush()
        self._file.close()
        self.progress.close()
        self._guard.close()


@dataclass
class Keys:
    """The keys of a journal: launches in their order, all that were opened, those opened and not ended; last steps."""

    launches: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)
    last_steps: dict[str, int] = field(default_factory=dict)

    def note(self, operation: Mapping[str, Any]) -> None:
        key = operation["key"]
        if operation["op"] == "metrics":
            self.last_steps[key] = max(self.last_steps.get(key, 0), int(operation["step"]))
            return
        if operation["op"] == "end":
            self.unfinished.discard(key)
            return
        if operation.get("parent") is None and key not in self.launches:
            self.launches.append(key)
        self.known.add(key)
        self.unfinished.add(key)


class Progress:
    """How far one server has a journal, and its name for every key. Small writes, each whole or not there."""

    def __init__(self, folder: Path, *, uri: str) -> None:
        mark = server_mark(uri)
        self._path = folder / f"sent-{mark}.json"
        self._runs_path = folder / f"runs-{mark}.jsonl"
        state = _read_json(self._path)
        self.offset = int(state.get("offset", 0))
        self.experiment_id: str | None = state.get("experiment_id")
        self.runs: dict[str, str] = _read_runs(self._runs_path)
        self._runs_file = LineFile(self._runs_path)

    def advance(self, offset: int) -> None:
        self.offset = offset
        self._save()

    def set_experiment(self, experiment_id: str) -> None:
        self.experiment_id = experiment_id
        self._save()

    def set_run(self, key: str, run_id: str) -> None:
        self.runs[key] = run_id
        self._runs_file.hold(json.dumps({"key": key, "run_id": run_id}) + "\n")
        self._runs_file.flush()

    def forget(self) -> None:
        """Begin anew, as with a server that never saw the journal."""
        self.offset, self.experiment_id, self.runs = 0, None, {}
        self._save()
        self._runs_file.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._runs_file.flush()
        self._runs_file.close()

    def _save(self) -> None:
        write_text(self._path, json.dumps({"offset": self.offset, "experiment_id": self.experiment_id}))


def server_mark(uri: str) -> str:
    """A short name for a server in file names."""
    return hashlib.sha256(uri.encode()).hexdigest()[:10]


def read_identity(folder: Path) -> dict[str, Any]:
    """What the journal in `folder` belongs to: search_id, experiment, uri (the last one used).

    Raises:
        SearchError: there is no journal.
    """
    identity = _read_json(folder / IDENTITY)
    if not identity:
        raise SearchError(f"tracking folder must hold a journal, got {folder}; was a search started there?")
    return identity


def read_times(folder: Path) -> dict[str, tuple[float, float | None]]:
    """When each run of a journal was first opened, and last closed if it was, in Unix seconds; none without one."""
    times: dict[str, tuple[float, float | None]] = {}
    if not (folder / OPERATIONS).exists():
        return times
    with (folder / OPERATIONS).open("rb") as file:
        for line in file:
            if not line.startswith((b'{"op":"start"', b'{"op":"end"')):
                continue
            for operation in _parse(line):
                key, at_s = operation["key"], operation["t"] / 1000
                began_s, _ = times.get(key, (at_s, None))
                times[key] = (began_s, at_s if operation["op"] == "end" else None)
    return times


def experiment_of(folder: Path) -> str | None:
    """MLflow's number of the experiment on the server used last; None where it was never reached."""
    experiment_id = _read_json(folder / f"sent-{server_mark(read_identity(folder)['uri'])}.json").get("experiment_id")
    return None if experiment_id is None else str(experiment_id)


def _open_identity(folder: Path, *, experiment: str, uri: str) -> dict[str, Any]:
    identity = _read_json(folder / IDENTITY)
    wanted = {"search_id": identity.get("search_id", uuid.uuid4().hex[:12]), "experiment": experiment, "uri": uri}
    if wanted != identity:
        write_text(folder / IDENTITY, json.dumps(wanted, indent=2) + "\n")
    return wanted


def _lock_folder(folder: Path) -> TextIO:
    guard = (folder / "lock").open("a", encoding="utf-8")
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        guard.close()
        raise TrackingError(
            f"tracking journal must be written by one process at a time: {folder}; wait for the other command to end"
        ) from None
    except OSError:
        pass  # a file system without locks: one process at a time is then the user's care
    return guard


def _parse(line: bytes) -> list[dict[str, Any]]:
    """The operation of a line; none where a crash tore it."""
    try:
        operation = json.loads(line)
    except ValueError:
        return []
    return [operation] if isinstance(operation, dict) and {"op", "key"} <= operation.keys() else []


def _count_lines(path: Path, *, start: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_runs(path: Path) -> dict[str, str]:
    runs: dict[str, str] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError):
                entry = json.loads(line)
                runs[entry["key"]] = entry["run_id"]
    return runs
