"""The Tune trainables: thin coats over a trial's run and a pack's. The only file of this floor that knows Ray."""

import json
from typing import Any

from ray import tune

from trainables.heads.pack_run import PackOrder, PackRun
from trainables.run import TrialOrder, TrialRun


class Trial(tune.Trainable):
    """One trial at a time, many after each other: the worker keeps its imports and the mapped table."""

    _run: TrialRun | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial that the config orders."""
        self._run = TrialRun(TrialOrder(**config["order"]))

    def step(self) -> dict[str, Any]:
        """One epoch; Tune's `done` is set with the report that carries the end."""
        assert self._run is not None
        report = self._run.step()
        return {**report, "done": bool(report["end"])}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Free what the trial held."""
        if self._run is not None:
            self._run.release()
            self._run = None


class PackTrial(tune.Trainable):
    """One pack of head-only trials at a time, many after each other."""

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

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another pack in this worker."""
        self.cleanup()
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Free what the pack held."""
        if self._run is not None:
            self._run.release()
            self._run = None
