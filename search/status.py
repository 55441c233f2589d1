"""How a search stands, from its folder alone: nothing is locked, written or asked of a cluster.

What can be told from another machine than the driver's is what it and its workers write there.
"""

import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from search.ends import TRIAL_ENDS
from search.folder import ENSEMBLE_FILE, LOCK_FILE, STUDY_FILE, SearchFolder, SearchManifest, TrialRecord
from search.privacy import hide_logins
from search.storage import storage_option
from search.tracking_journal import OPERATIONS, server_mark
from trainables.pulse import PULSE_FILE

State = Literal["running", "silent", "interrupted", "ended"]
"""`silent`: its process is on another machine, and nothing has been heard of it for long."""

SILENT_S = 900.0
_HOLDER = re.compile(r"process (?P<pid>\d+) on (?P<host>.+)")
_STARTED_LATE_S = 2.0
"""A lock is written a moment after its process has started, by the clock of the folder's machine."""


@dataclass(frozen=True)
class RunningTrial:
    """A trial that has begun and not ended.

    Attributes:
        trial_id: which.
        epoch: ended ones.
        n_epochs: in all; 0 where only a head is trained.
        macro_f1: its best so far.
        node: host of its worker; empty where that has not said.
        silent_s: seconds since its worker was last heard of.
    """

    trial_id: str
    epoch: int
    n_epochs: int
    macro_f1: float | None
    node: str
    silent_s: float


@dataclass(frozen=True)
class SearchStatus:
    """How a search stands.

    Attributes:
        search: its name.
        folder: where it is kept.
        state: whether somebody works on it.
        driver: who does, or did last; a process and its host.
        launched_s: Unix time of the latest launch.
        heard_s: Unix time at which something was last written.
        n_trials: asked for; None where time alone bounds it.
        ends: end to number of trials; those without one are `open`.
        running: the open ones.
        best: trial, and its macro-F1 on valid.
        time_left_s: of its time budget, None without one, or where the search has ended.
        about_left_s: guessed from the trials that have ended, None where that can't be.
        tracking_uri: of MLflow, without its log-in.
        n_waiting: records that MLflow does not have yet.
        next: the command to type now.
    """

    search: str
    folder: str
    state: State
    driver: str
    launched_s: float
    heard_s: float
    n_trials: int | None
    ends: dict[str, int]
    running: list[RunningTrial]
    best: tuple[str, float] | None
    time_left_s: float | None
    about_left_s: float | None
    tracking_uri: str
    n_waiting: int
    next: str


def read_status(folder: SearchFolder, *, now_s: float | None = None) -> SearchStatus:
    """Look at a search, whether it runs or not.

    Args:
        folder: of the search.
        now_s: Unix time.

    Raises:
        SearchError: search.json or a trial.json is broken.
    """
    now_s = time.time() if now_s is None else now_s
    manifest, records = folder.read_manifest(), folder.read_records()
    unfinished = [record for record in records if record.end is None]
    running = [_running(folder, record, now_s) for record in unfinished]
    is_at_heads = bool(manifest.plan.get("first")) and not records
    written_s = _last_write_s(folder.heads if is_at_heads else folder)
    heard_s = max([written_s, manifest.launched_s, *(now_s - trial.silent_s for trial in running)])
    driver, is_alive = _driver(folder)
    state = _state(manifest, is_alive, silent_s=now_s - heard_s)
    scored = [(r.trial_id, r.best_macro_f1) for r in records if r.best_macro_f1 and r.end not in ("diverged", "failed")]
    counts: Counter[str] = Counter(record.end or "open" for record in records)
    return SearchStatus(
        search=folder.name,
        folder=str(folder.path),
        state=state,
        driver=driver,
        launched_s=manifest.launched_s,
        heard_s=heard_s,
        n_trials=manifest.n_trials,
        ends={end: counts[end] for end in (*TRIAL_ENDS, "open") if counts[end]},
        running=running if state in ("running", "silent") else [],
        best=max(scored, key=lambda found: found[1], default=None),
        time_left_s=None if state == "ended" else _time_left_s(folder, manifest, now_s if state == "running" else None),
        about_left_s=_about_left_s(manifest, records, n_at_once=len(running)) if state == "running" else None,
        tracking_uri=hide_logins(manifest.tracking_uri),
        n_waiting=_n_waiting(folder.tracking_dir, manifest.tracking_uri),
        next=_next(folder, state, is_at_heads=is_at_heads),
    )


def _running(folder: SearchFolder, record: TrialRecord, now_s: float) -> RunningTrial:
    trial_dir = folder.trial_dir(record.trial_id)
    heard_s = max(_changed_s(trial_dir / PULSE_FILE), _changed_s(trial_dir / "trial.json"))
    return RunningTrial(
        trial_id=record.trial_id,
        epoch=record.epochs,
        n_epochs=int(record.config.get("train.epochs", 0)),
        macro_f1=record.best_macro_f1,
        node=str(_read_json(trial_dir / PULSE_FILE).get("host", "")),
        silent_s=max(0.0, now_s - heard_s),
    )


def _state(manifest: SearchManifest, is_alive: bool | None, *, silent_s: float) -> State:
    if manifest.status == "ended":
        return "ended"
    if manifest.status == "interrupted" or is_alive is False:
        return "interrupted"
    return "running" if is_alive or silent_s < SILENT_S else "silent"


def _driver(folder: SearchFolder) -> tuple[str, bool | None]:
    """Who wrote the lock last, and whether that process is there; None where it is not for this machine to say."""
    lock = folder.path / LOCK_FILE
    try:
        holder = lock.read_text(encoding="utf-8").strip()
    except OSError:
        holder = ""
    found = _HOLDER.fullmatch(holder)
    if found is None or found["host"] != socket.gethostname():
        return holder, None
    try:
        started_s = psutil.Process(int(found["pid"])).create_time()
    except (psutil.Error, OverflowError):
        return holder, False
    return holder, started_s <= _changed_s(lock) + _STARTED_LATE_S  # else another process has got its number


def _last_write_s(folder: SearchFolder) -> float:
    names = (STUDY_FILE, "search.json", f"tracking/{OPERATIONS}", f"ensemble/{Path(ENSEMBLE_FILE).name}")
    return max(_changed_s(folder.path / name) for name in names)


def _time_left_s(folder: SearchFolder, manifest: SearchManifest, now_s: float | None) -> float | None:
    """Of its budget; `now_s` where the search runs."""
    if manifest.time_budget_s is None:
        return None
    spent_s = folder.spent_s() if now_s is None else manifest.wall_s + now_s - manifest.launched_s
    return max(0.0, manifest.time_budget_s - spent_s)


def _about_left_s(manifest: SearchManifest, records: Sequence[TrialRecord], *, n_at_once: int) -> float | None:
    """As long as the trials still to come take, if they take what the ended ones took."""
    took_s = [record.wall_s for record in records if record.end and record.wall_s]
    if manifest.n_trials is None or not took_s or not n_at_once:
        return None
    spent_s = sum(record.wall_s for record in records if record.end is None)
    n_left = manifest.n_trials - sum(record.end is not None for record in records)
    return max(0.0, n_left * sum(took_s) / len(took_s) - spent_s) / n_at_once


def _n_waiting(journal: Path, uri: str) -> int:
    offset = int(_read_json(journal / f"sent-{server_mark(uri)}.json").get("offset", 0))
    try:
        with (journal / OPERATIONS).open("rb") as file:
            file.seek(offset)
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def _next(folder: SearchFolder, state: State, *, is_at_heads: bool) -> str:
    where = f" {storage_option(folder.path.parent)}"  # a report, or a program, reads it elsewhere
    if is_at_heads and state in ("running", "silent"):
        return f"affectune status {folder.heads.name}{where}"
    if state == "running":
        return f"affectune ui{where}"
    if state != "ended":
        return f"affectune resume {folder.name}{where}"
    if not (folder.path / ENSEMBLE_FILE).exists():
        return f"affectune ensemble {folder.name}{where}"
    return f"affectune export {folder.name}{where} --out DIR"


def _changed_s(file: Path) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
