"""The Tune trainable: a thin coat over one trial's run. The only file of this floor that knows Ray."""

from typing import Any

from ray import tune

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
