"""What Ray Tune tells about packs, passed on trial by trial to the recorder."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial

from search.callbacks import RecordingCallback, lighten, never_raising
from search.folder import TrialRecord
from search.packs.runs import PackRuns
from search.packs.searcher import Pack, reports_of
from search.recorder import Recorder


class PackCallback(RecordingCallback):
    """Maps Tune's trials, which are packs, to our trials.

    Each is recorded by itself: one that can't be, for a full disk, does not take the others of its pack with it.

    Args:
        recorder: notes what happens to each trial.
        packs: Tune's trial id to our pack, filled by the searcher.
        runs: of the packs, in MLflow.
        more: as for trials.
    """

    def __init__(
        self,
        recorder: Recorder,
        packs: Mapping[str, Pack],
        *,
        runs: PackRuns,
        **more: Any,
    ) -> None:
        super().__init__(recorder, {}, **more)
        self._packs = packs
        self._runs = runs

    @never_raising
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A pack begins, or begins again after its worker was lost: what it has told already stays."""
        self._waiting.discard(trial.trial_id)
        pack = self._packs[trial.trial_id]
        for record in pack.records:
            self._begun(record)
        self._runs.started(pack)

    @never_raising
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Some trials of a pack have ended."""
        for trial_id, report in reports_of(result).items():
            self._reported(trial_id, report)

    @never_raising
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A pack is over; what it did not come to in its time waits for whoever resumes the search."""
        pack = self._packs[trial.trial_id]
        for record in pack.records:
            self._closed(record)
        self._runs.ended(pack)
        lighten(trial)

    @never_raising
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A pack's workers could never begin, or one was lost between two packs: its trials then go into others."""
        super().on_trial_error(iteration, trials, trial, **info)
        self._runs.ended(self._packs[trial.trial_id])

    def records_of(self, trial: Trial) -> Sequence[TrialRecord]:
        """Of a pack's trials."""
        return self._packs[trial.trial_id].records

    @never_raising
    def _begun(self, record: TrialRecord) -> None:
        if record.end is None:
            self._recorder.trial_started(record)

    @never_raising
    def _reported(self, trial_id: str, report: Mapping[str, Any]) -> None:
        if self._recorder.is_running(trial_id):
            self._recorder.epoch(trial_id, report)
            self._recorder.trial_ended(trial_id, report["end"])

    @never_raising
    def _closed(self, record: TrialRecord) -> None:
        """What was reported and could not be recorded then is recorded now."""
        self._recorder.trial_ended(record.trial_id, "preempted")
