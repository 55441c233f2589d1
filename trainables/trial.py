"""The Tune trainables: thin coats over a trial's run and a pack's. The only file of this floor that knows Ray."""

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.worker import warm_up

if TYPE_CHECKING:
    from trainables.heads.pack_run import PackRun
    from trainables.run import TrialRun

GIVES_UP = "gives_up"
"""In Tune's config of a trial whose workers were lost too often: the next one only says that it has ended."""


class Worker(tune.Trainable):
    """One piece of work at a time, many after each other: the worker keeps its imports and the mapped table.

    An order is only noted when it comes, and begun with the first step. What goes wrong in a step, the loss of the
    worker included, is a trial's own, and a lost trial goes on elsewhere; of one whose worker is lost while it is set
    up or reset, Ray Tune makes an error.
    """

    _run: "TrialRun | PackRun | None" = None
    _order: dict[str, Any] | None = None
    _gives_up = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Tune's arguments; the first order is among them."""
        warm_up()
        super().__init__(*args, **kwargs)

    def setup(self, config: dict[str, Any]) -> None:
        """Note what the config orders."""
        self._order = config["order"]
        self._gives_up = config.get(GIVES_UP, False)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Note what this worker does next."""
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Free what the work held."""
        if self._run is not None:
            self._run.release()
            self._run = None

    def begin(self, order: dict[str, Any]) -> None:
        """Begin what was ordered."""
        raise NotImplementedError

    def _begin_what_was_ordered(self) -> None:
        if self._order is None:
            return
        if self._run is not None and not self._has_made_room():
            os._exit(1)  # Ray Tune gives the order to a fresh worker
        order, self._order = self._order, None
        self.begin(order)

    def _has_made_room(self) -> bool:
        """Whether the last piece of work left the GPU free; a GPU that is out of order raises."""
        from trainables.memory import is_gpu_free

        with suppress(Exception):
            self.cleanup()
            return is_gpu_free()
        return False


class Trial(Worker):
    """A trial at a time."""

    _run: "TrialRun | None" = None

    def begin(self, order: dict[str, Any]) -> None:
        """Begin a trial."""
        from trainables.run import TrialOrder, TrialRun

        self._run = TrialRun(TrialOrder(**order))

    def step(self) -> dict[str, Any]:
        """One epoch; Tune's `done` is set with the report that carries the end."""
        if self._gives_up:
            from trainables.run import last_report

            return {**last_report("failed"), "done": True}
        self._begin_what_was_ordered()
        assert self._run is not None
        report = self._run.step()
        return {**report, "done": bool(report["end"])}


class PackTrial(Worker):
    """A pack of head-only trials at a time."""

    _run: "PackRun | None" = None
    _n_steps = 0
    _best_f1 = 0.0

    def begin(self, order: dict[str, Any]) -> None:
        """Begin a pack."""
        from trainables.heads.pack_run import PackOrder, PackRun

        self._run = PackRun(PackOrder.from_dict(order))
        self._n_steps, self._best_f1 = 0, 0.0

    def step(self) -> dict[str, Any]:
        """Train some of the pack's trials to their ends.

        Returns:
            `reports`: JSON, a trial's id to its last report (as text, since Tune keeps numbers of every result);
            `best/macro_f1`: of the pack so far; `epoch`: steps so far; `done` with the last one.
        """
        if self._gives_up:
            return {"reports": "{}", "best/macro_f1": self._best_f1, "epoch": self._n_steps + 1, "done": True}
        self._begin_what_was_ordered()
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
