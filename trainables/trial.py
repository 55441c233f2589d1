"""The Tune trainables: thin coats over a trial's run and a pack's. The only file of this floor that knows Ray."""

import json
import os
from typing import Any

from ray import tune

from trainables.heads.pack_run import PackOrder, PackRun
from trainables.memory import is_gpu_free
from trainables.run import TrialOrder, TrialRun
from trainables.worker import warm_up


class Worker(tune.Trainable):
    """One piece of work at a time, many after each other: the worker keeps its imports and the mapped table.

    A worker that could not free a GPU after a piece of work ends with the first step of the next, which Ray Tune then
    gives to a fresh one. It must not end sooner: a worker that is lost while it is reset, or that refuses the reset,
    turns its next trial into an error.
    """

    _run: TrialRun | PackRun | None = None
    _must_end = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Tune's arguments; the first work begins at once."""
        warm_up()
        super().__init__(*args, **kwargs)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another piece of work in this worker."""
        self.cleanup()
        self._must_end = not is_gpu_free()
        if not self._must_end:
            self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Free what the work held."""
        if self._run is not None:
            self._run.release()
            self._run = None

    def _end_where_due(self) -> None:
        if self._must_end:
            os._exit(1)


class Trial(Worker):
    """A trial at a time."""

    _run: TrialRun | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that the config orders."""
        self._run = TrialRun(TrialOrder(**config["order"]))

    def step(self) -> dict[str, Any]:
        """One epoch; Tune's `done` is set with the report that carries the end."""
        self._end_where_due()
        assert self._run is not None
        report = self._run.step()
        return {**report, "done": bool(report["end"])}


class PackTrial(Worker):
    """A pack of head-only trials at a time."""

    _run: PackRun | None = None
    _n_steps = 0
    _best_f1 = 0.0

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the pack that the config orders."""
        self._run = PackRun(PackOrder.from_dict(config["order"]))
        self._n_steps, self._best_f1 = 0, 0.0

    def step(self) -> dict[str, Any]:
        """Train some of the pack's trials to their ends.

        Returns:
            `reports`: JSON, a trial's id to its last report (as text, since Tune keeps numbers of every result);
            `best/macro_f1`: of the pack so far; `epoch`: steps so far; `done` with the last one.
        """
        self._end_where_due()
        assert self._run is not None
        told = self._run.step()
        self._n_steps += 1
        self._best_f1 = max([self._best_f1, *(float(r["best/macro_f1"]) for r in told["reports"].values())])
        return {
            "reports": json.dumps(told["reports"]),
            "best/macro_f1": self._best_f1,
            "epoch": self._n_steps,
            "done": bool(told["end"]),
        }
