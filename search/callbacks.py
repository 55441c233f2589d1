"""What Ray Tune tells about trials, passed on to the recorder."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.ends import TrialEnd
from search.folder import TrialRecord
from search.recorder import Recorder

Hook = TypeVar("Hook", bound=Callable[..., None])


def never_raising(hook: Hook) -> Hook:
    """An error in a hook would leave Tune's loop in the middle of a step: it is noted instead."""

    @wraps(hook)
    def guarded(self: "RecordingCallback", *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.note_trouble(error)

    return guarded  # type: ignore[return-value]


def own_report(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the trial reported, without what Tune puts beside it (pid, timestamp, iterations)."""
    words = ("epoch", "samples_seen", "end", "error", "done")
    return {name: value for name, value in result.items() if "/" in name or name in words}


def lighten(trial: Trial) -> None:
    """Let go of what Tune keeps of an ended trial for nobody: statistics of every number, copies of its config."""
    state = trial.run_metadata
    state.metric_analysis, state.metric_n_steps, state.last_result = {}, {}, {}
    trial.config, trial.evaluated_params, trial.experiment_tag = {}, {}, ""


class RecordingCallback(Callback):
    """Maps Tune's trials to our records and tells the recorder of them.

    Args:
        recorder: notes what happens.
        records: Tune's trial id to our record, filled by the searcher.
        halt: is called when a trial could not be recorded (a full disk), so that no other begins.
        spared: our trial id to the faces it had seen when the scheduler let it go on, kept up to date by that.
    """

    def __init__(
        self,
        recorder: Recorder,
        records: Mapping[str, TrialRecord],
        *,
        halt: Callable[[], None] = lambda: None,
        spared: Mapping[str, int] | None = None,
    ) -> None:
        self.trouble: Exception | None = None
        self._recorder = recorder
        self._records = records
        self._halt = halt
        self._spared = {} if spared is None else spared

    def note_trouble(self, error: Exception) -> None:
        """Keep the first error, for the launch to raise once all trials have ended."""
        self.trouble = self.trouble or error
        self._halt()

    @never_raising
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial begins, or begins again after its worker was lost."""
        self._recorder.trial_started(self._records[trial.trial_id])

    @never_raising
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch was reported, and the scheduler has judged it."""
        record = self._records[trial.trial_id]
        record.spared = self._spared.get(record.trial_id, record.spared)
        self._recorder.epoch(record.trial_id, own_report(result))

    @never_raising
    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost and its trial waits for another."""
        self._recorder.trial_preempted(self._records[trial.trial_id].trial_id)

    @never_raising
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped by the scheduler."""
        end: TrialEnd = (trial.last_result or {}).get("end") or "stopped"
        self._recorder.trial_ended(self._records[trial.trial_id].trial_id, end)
        lighten(trial)

    @never_raising
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial's workers were lost more often than it may be retried."""
        self._given_up(self._records[trial.trial_id], trial.num_failures)
        lighten(trial)

    def get_state(self) -> None:
        """Nothing goes into Tune's snapshots: the records are on disk."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @never_raising
    def _given_up(self, record: TrialRecord, n_lost: int) -> None:
        """A trial failed with its workers, which may all have been lost before it began."""
        if record.end is None:
            self._recorder.trial_started(record)
        error = f"worker was lost {n_lost} times (out of memory, or its machine went away)"
        self._recorder.trial_ended(record.trial_id, "failed", error=error)
