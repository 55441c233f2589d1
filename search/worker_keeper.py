"""Ends workers that hang, and has trials leave machines that are about to be taken away. Ray tells of both."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray._private import state as ray_state
from ray.tune.experiment import Trial

from search.lost_workers import Cause, LostWorkers
from search.watchdog import Watchdog

NOTICE_S = 8.0
"""Within which Ray knows that a machine which it can't reach has gone, where its processes were killed."""

LEAVE_S = 20.0
"""After the notice, a trial may end its epoch for so long; then it is moved in the middle of it."""


_log = logging.getLogger("affectune.workers")


class WorkerKeeper:
    """Looks after the workers of a search every few seconds, from Tune's loop.

    Args:
        losses: is told of each worker that is ended here, and why.
        folder_of: where the worker of a trial of Tune's leaves its pulse; its name is what losses are counted by.
        silent_s: seconds without a sign of life after which a worker is taken for hung.
    """

    def __init__(self, losses: LostWorkers, folder_of: Callable[[Trial], Path], *, silent_s: float) -> None:
        self._losses = losses
        self._folder_of = folder_of
        self._watchdog = Watchdog(silent_s=silent_s)
        self._notices: dict[str, _Notice] = {}
        self._places: dict[str, _Place] = {}

    def look(self, trials: Sequence[Trial]) -> None:
        """End what is to be ended; Tune then starts it again elsewhere."""
        if not self._watchdog.is_due:
            return
        try:
            self._look(trials)
        except Exception as error:  # Ray's head may not answer for a moment, which is no reason to end a search
            _log.warning("workers could not be looked after, got %s: %s", type(error).__name__, error)

    def _look(self, trials: Sequence[Trial]) -> None:
        running = {trial.trial_id: trial for trial in trials if _has_worker(trial)}
        silent = self._watchdog.hung({name: self._folder_of(trial) for name, trial in running.items()})
        self._note_places(running)
        for name in silent:
            self._end(running.pop(name), "hung", f"it gave no sign of life for {self._watchdog.silent_s:.0f} s")
        self._leave_draining(running)

    def has_lost_machine(self, trial: Trial) -> bool:
        """Whether the machine of a trial's last worker has gone, which Ray may need some seconds to know."""
        place = self._places.get(trial.trial_id)
        until_s = time.monotonic() + NOTICE_S
        while place is not None and place.node:
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
            if not any(node["NodeID"] == place.node and node["Alive"] for node in nodes):
                return True
            if time.monotonic() > until_s:
                break
            time.sleep(0.5)
        return False

    def _note_places(self, running: Mapping[str, Trial]) -> None:
        for name, trial in running.items():
            worker = _worker_id(trial)
            if name not in self._places or self._places[name].worker != worker:
                self._places[name] = _Place(worker, _node_of(worker))

    def _leave_draining(self, running: Mapping[str, Trial]) -> None:
        self._notices = {name: notice for name, notice in self._notices.items() if name in running}
        draining = ray_state.state.get_draining_nodes()
        for name, trial in running.items() if draining else ():
            notice = self._notices.get(name)
            if notice is None and self._places[name].node in draining:
                notice = self._notices[name] = _Notice(trial)
            if notice is not None and notice.is_over(trial):
                self._end(trial, "preempted", "its machine is about to be taken away")

    def _end(self, trial: Trial, cause: Cause, words: str) -> None:
        self._losses.expect(self._folder_of(trial).name, cause, words)
        worker = trial.temporary_state.ray_actor
        if worker is not None:
            ray.kill(worker, no_restart=True)


class _Place(NamedTuple):
    """A trial's worker and the node that it is on, by Ray's names."""

    worker: str
    node: str


class _Notice:
    """That a trial must leave its machine."""

    def __init__(self, trial: Trial) -> None:
        self._n_reports = _n_reports(trial)
        self._until_s = time.monotonic() + LEAVE_S

    def is_over(self, trial: Trial) -> bool:
        """Whether an epoch has ended since, or the time."""
        return _n_reports(trial) != self._n_reports or time.monotonic() > self._until_s


def _has_worker(trial: Trial) -> bool:
    return trial.status == Trial.RUNNING and trial.temporary_state.ray_actor is not None


def _n_reports(trial: Trial) -> Any:
    return (trial.last_result or {}).get("training_iteration")


def _worker_id(trial: Trial) -> str:
    worker = trial.temporary_state.ray_actor
    return "" if worker is None else str(worker._actor_id.hex())


def _node_of(worker: str) -> str:
    known = ray_state.actors(worker) if worker else {}
    return str(known.get("Address", {}).get("NodeID", ""))
