"""What Ray Tune tells about trials, passed on to the recorder."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.disk_watch import DiskWatch
from search.ends import TrialEnd
from search.folder import TrialRecord
from search.lost_workers import Loss, LostWorkers
from search.recorder import Recorder
from search.same_errors import MOST_SAME
from search.worker_keeper import WorkerKeeper
from spaces.errors import SearchError
from trainables.trial import GIVES_UP

SILENT_NODE = "unavailable"
"""What Ray says of a worker whose machine it can't reach, before it knows that the machine has gone."""

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


def error_text(trial: Trial) -> str:
    """What Ray says of a trial's last error."""
    try:
        file = trial.error_file
        return Path(file).read_text(encoding="utf-8", errors="replace").rpartition("Failure #")[2] if file else ""
    except (AttributeError, OSError):  # without a storage, Tune keeps none
        return ""


class RecordingCallback(Callback):
    """Maps Tune's trials to our records and tells the recorder of them.

    Args:
        recorder: notes what happens.
        records: Tune's trial id to our record, filled by the searcher.
        halt: is called when a trial could not be recorded (a full disk), so that no other begins.
        begin_again: orders once more what Ray Tune has given up; says whether it will.
        fail: is told what Ray Tune has given up and is not begun again.
        losses: counts the workers that trials lose.
        keeper: looks after workers; nobody does if None.
        disk: tries whether the search's folder can be written to; nobody does if None.
        say: shows a line to a person.
        spared: our trial id to the faces it had seen when the scheduler let it go on, kept up to date by that.
    """

    def __init__(
        self,
        recorder: Recorder,
        records: Mapping[str, TrialRecord],
        *,
        halt: Callable[[], None] = lambda: None,
        begin_again: Callable[[str], bool] = lambda _: False,
        fail: Callable[[str], None] = lambda _: None,
        losses: LostWorkers | None = None,
        keeper: WorkerKeeper | None = None,
        disk: DiskWatch | None = None,
        say: Callable[[str], None] = lambda _: None,
        spared: Mapping[str, int] | None = None,
    ) -> None:
        self.trouble: Exception | None = None
        self._losses = losses or LostWorkers()
        self._keeper, self._disk = keeper, disk
        self._say = say
        self._begin_again, self._tell_failed = begin_again, fail
        self._given_up: set[str] = set()
        self._waiting: set[str] = set()
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
        self._waiting.discard(trial.trial_id)
        self._recorder.trial_started(self._records[trial.trial_id])

    @never_raising
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch was reported, and the scheduler has judged it."""
        if trial.trial_id in self._given_up:
            return
        record = self._records[trial.trial_id]
        record.spared = self._spared.get(record.trial_id, record.spared)
        self._recorder.epoch(record.trial_id, own_report(result))

    @never_raising
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune has gone once round its loop."""
        hopeless = self._recorder.same_errors.hopeless
        if hopeless is not None and self.trouble is None:
            self.note_trouble(
                SearchError(
                    f"trials must not fail one like the other, got {MOST_SAME} in a row with: {hopeless}; "
                    f"mend it, then go on with 'affectune resume {self._recorder.search}'"
                )
            )
        if self._keeper is not None:
            self._keeper.look(trials)
        if self._disk is not None:
            self._disk.look()

    @never_raising
    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker was lost, and its work waits for another; unless it has lost too many."""
        if trial.trial_id in self._given_up:
            return
        text = error_text(trial)
        if SILENT_NODE in text and self._keeper is not None and self._keeper.has_lost_machine(trial):
            self._losses.expect(self._name_of(trial), "preempted", "its machine went away")
        loss = self._note_loss(trial, text)
        self._waiting.add(trial.trial_id)
        self._note_what_was_told(trial)
        for record in self.records_of(trial):
            self._recorder.worker_lost(record.trial_id, loss)
        if not loss.is_last:
            trial.max_failures += 1  # Tune counts as well, and otherwise
            self._say(f"{trial.config.get('trial_id')} lost its worker: {loss.words}; it goes on in another one")
        else:
            self._given_up.add(trial.trial_id)
            trial.config = {**trial.config, GIVES_UP: True}
            self._fail(trial, loss)

    @never_raising
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial ended by itself or was stopped by the scheduler."""
        end: TrialEnd = (trial.last_result or {}).get("end") or "stopped"
        self._recorder.trial_ended(self._records[trial.trial_id].trial_id, end)
        lighten(trial)

    @never_raising
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker could never begin; or it was lost between two trials, and Tune makes an error of the second.

        Of the latter, Tune has told before that it recovers the trial, and only then that it does not.
        """
        self._settle_error(trial)
        lighten(trial)

    def records_of(self, trial: Trial) -> Sequence[TrialRecord]:
        """Of our trials behind one of Tune's."""
        return [self._records[trial.trial_id]]

    def get_state(self) -> None:
        """Nothing goes into Tune's snapshots: the records are on disk."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _note_what_was_told(self, trial: Trial) -> None:
        """The next worker tells an epoch again only where it has not arrived."""
        order = trial.config.get("order")
        if order and "n_told" in order:
            (record,) = self.records_of(trial)
            trial.config = {**trial.config, "order": {**order, "n_told": record.epochs}}

    def _name_of(self, trial: Trial) -> str:
        """Under which its lost workers are counted: our own, as Tune may begin it again under another of its own."""
        return self.records_of(trial)[0].trial_id

    def _note_loss(self, trial: Trial, error: str) -> Loss:
        reached = sum(record.epochs for record in self.records_of(trial))
        return self._losses.note(self._name_of(trial), error, reached=reached)

    def _settle_error(self, trial: Trial) -> None:
        if trial.trial_id in self._given_up:
            self._tell_failed(trial.trial_id)
        elif trial.trial_id not in self._waiting:
            self._fail(trial, self._note_loss(trial, error_text(trial)))
            self._tell_failed(trial.trial_id)
        elif not self._begin_again(trial.trial_id):
            for record in self.records_of(trial):
                self._end_one(record, "preempted")

    def _fail(self, trial: Trial, loss: Loss) -> None:
        for record in self.records_of(trial):
            self._end_one(record, "failed", error=loss.sentence)

    @never_raising
    def _end_one(self, record: TrialRecord, end: TrialEnd, *, error: str = "") -> None:
        """A trial ended with its workers, which may all have been lost before it began."""
        if record.end is None:
            self._recorder.trial_started(record)
        self._recorder.trial_ended(record.trial_id, end, error=error)
