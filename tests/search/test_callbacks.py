"""What Tune's hooks make of what Tune says; and that none of them raises."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from search.callbacks import RecordingCallback, own_report
from search.ends import TrialEnd
from search.folder import TrialRecord
from search.lost_workers import Loss, LostWorkers
from search.same_errors import SameErrors
from spaces.errors import OutputError
from trainables.trial import GIVES_UP


class Recorder:
    search = "faces"

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.error = error
        self.same_errors = SameErrors(most=2)

    def _note(self, *words: Any) -> None:
        self.told.append(words)
        if self.error:
            raise self.error

    def trial_started(self, record: TrialRecord) -> None:
        self._note("started", record.trial_id)

    def epoch(self, trial_id: str, report: dict[str, Any]) -> None:
        self._note("epoch", trial_id, report)

    def worker_lost(self, trial_id: str, loss: Loss) -> None:
        self._note("lost", trial_id, loss.cause)

    def trial_ended(self, trial_id: str, end: str, *, error: str = "") -> None:
        self._note("ended", trial_id, end, error)


def tune_trial(**last_result: Any) -> Any:
    return SimpleNamespace(
        trial_id="abc",
        last_result=last_result,
        max_failures=4,
        config={"trial_id": "t0003"},
        error_file=None,
        run_metadata=SimpleNamespace(last_result=last_result),
    )


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def callback_of(recorder: Recorder, *, end: TrialEnd | None = None, **more: Any) -> RecordingCallback:
    records = {"abc": TrialRecord("t0003", 3, values={}, config={}, end=end)}
    return RecordingCallback(recorder, records, **more)  # type: ignore[arg-type]


def test_trial_is_recorded_under_our_name(recorder: Recorder) -> None:
    callback_of(recorder).on_trial_start(1, [], tune_trial())

    assert recorder.told == [("started", "t0003")]


def test_report_is_freed_of_what_tune_adds() -> None:
    result = {"epoch": 1, "valid/macro_f1": 0.5, "end": "", "done": False, "pid": 7, "timestamp": 1, "config": {}}

    assert own_report(result) == {"epoch": 1, "valid/macro_f1": 0.5, "end": "", "done": False}


def test_record_knows_that_the_trial_was_spared_before_its_report_is_recorded(recorder: Recorder) -> None:
    spared = {"t0003": 120}
    record = TrialRecord("t0003", 3, values={}, config={})
    callback = RecordingCallback(recorder, {"abc": record}, spared=spared)  # type: ignore[arg-type]

    callback.on_trial_result(1, [], tune_trial(), {"epoch": 1})
    spared.clear()
    callback.on_trial_result(1, [], tune_trial(), {"epoch": 2})

    assert record.spared == 120
    assert recorder.told[-1] == ("epoch", "t0003", {"epoch": 2})


@pytest.mark.parametrize(
    ("said", "end"), [("completed", "completed"), ("diverged", "diverged"), ("failed", "failed"), ("", "stopped")]
)
def test_end_is_what_the_trial_said_or_else_stopped(recorder: Recorder, said: str, end: str) -> None:
    callback_of(recorder).on_trial_complete(1, [], tune_trial(end=said))

    assert recorder.told == [("ended", "t0003", end, "")]


def test_lost_worker_is_told_to_a_person_and_its_trial_goes_on(recorder: Recorder) -> None:
    said: list[str] = []

    callback_of(recorder, say=said.append).on_trial_recover(1, [], tune_trial())

    assert recorder.told == [("lost", "t0003", "lost")]
    assert said == [
        "t0003 lost its worker: its process was killed or crashed; the machine may be out of memory; "
        "it goes on in another one"
    ]


def test_machine_that_went_away_does_not_use_up_what_tune_allows(recorder: Recorder, tmp_path: Path) -> None:
    trial = tune_trial()
    trial.error_file = str(tmp_path / "error.txt")
    (tmp_path / "error.txt").write_text("Failure # 1 (occurred at noon)\nThe actor died because its node has died.\n")

    callback_of(recorder).on_trial_recover(1, [], trial)

    assert recorder.told == [("lost", "t0003", "preempted")]
    assert trial.max_failures == 5


def test_worker_lost_once_too_often_is_a_failure_and_the_next_one_does_nothing(recorder: Recorder) -> None:
    callback, trial = callback_of(recorder, losses=LostWorkers(most=1)), tune_trial()

    callback.on_trial_recover(1, [], trial)
    callback.on_trial_recover(1, [], trial)
    callback.on_trial_start(1, [], trial)
    callback.on_trial_result(1, [], trial, {"epoch": 0, "end": "failed", "done": True})

    assert trial.config == {"trial_id": "t0003", GIVES_UP: True}
    ends = [told for told in recorder.told if told[0] == "ended"]
    assert [end[:3] for end in ends] == [("ended", "t0003", "failed")]
    assert ends[0][3].startswith("worker was lost 2 times in a row: its process was killed or crashed")
    assert not [told for told in recorder.told if told[0] == "epoch"]


def test_worker_that_could_never_begin_is_a_failure(recorder: Recorder) -> None:
    callback_of(recorder).on_trial_error(1, [], tune_trial())

    assert recorder.told[-1][:3] == ("ended", "t0003", "failed")
    assert "worker was lost once" in recorder.told[-1][3]


def test_trial_whose_worker_was_lost_between_two_trials_is_ordered_once_more(recorder: Recorder) -> None:
    again: list[str] = []
    callback = callback_of(recorder, begin_again=lambda name: not again.append(name))
    trial = tune_trial()

    callback.on_trial_recover(1, [], trial)  # Tune says both of one loss
    callback.on_trial_error(1, [], trial)

    assert again == ["abc"]
    assert recorder.told == [("lost", "t0003", "lost")]


def test_trial_whose_worker_was_lost_between_two_trials_is_preempted_where_time_is_up(recorder: Recorder) -> None:
    callback = callback_of(recorder, begin_again=lambda _: False)

    callback.on_trial_recover(1, [], tune_trial())
    callback.on_trial_error(1, [], tune_trial())

    assert recorder.told[-1] == ("ended", "t0003", "preempted", "")


def test_losses_are_counted_on_under_another_name_of_tune(recorder: Recorder) -> None:
    record = TrialRecord("t0003", 3, values={}, config={})
    callback = RecordingCallback(recorder, {"abc": record, "def": record}, losses=LostWorkers(most=1))  # type: ignore[arg-type]
    first, second = tune_trial(), tune_trial()
    second.trial_id = "def"

    callback.on_trial_recover(1, [], first)
    callback.on_trial_recover(1, [], second)

    assert [told[:3] for told in recorder.told if told[0] == "ended"] == [("ended", "t0003", "failed")]


def test_search_is_halted_when_trials_fail_one_like_the_other(recorder: Recorder) -> None:
    halts: list[str] = []
    callback = callback_of(recorder, halt=lambda: halts.append("halt"))

    callback.on_step_end(1, [])
    for _ in range(2):
        recorder.same_errors.note("failed", "no such file")
    callback.on_step_end(1, [])
    callback.on_step_end(1, [])

    assert halts == ["halt"]
    assert "in a row with: no such file; mend it, then go on with 'affectune resume faces'" in str(callback.trouble)


def test_trial_whose_workers_were_lost_before_it_began_is_recorded(recorder: Recorder) -> None:
    callback_of(recorder).on_trial_error(1, [], tune_trial())

    assert recorder.told[0] == ("started", "t0003")


def test_worker_lost_after_its_trial_ended_begins_it_no_second_time(recorder: Recorder) -> None:
    callback_of(recorder, end="completed").on_trial_error(1, [], tune_trial())

    assert [told[0] for told in recorder.told] == ["ended"]


def test_hook_keeps_its_error_and_asks_to_stop_when_the_disk_is_full() -> None:
    halts: list[str] = []
    callback = callback_of(Recorder(OutputError("the disk is full")), halt=lambda: halts.append("halt"))

    callback.on_trial_start(1, [], tune_trial())
    callback.on_trial_complete(1, [], tune_trial(end="completed"))

    assert str(callback.trouble) == "the disk is full"
    assert halts


def test_nothing_of_a_callback_goes_into_snapshots(recorder: Recorder) -> None:
    callback = callback_of(recorder)

    assert callback.get_state() is None
    assert callback.__getstate__() == {}


def test_tune_keeps_no_numbers_of_a_trial_that_is_over(recorder: Recorder) -> None:
    trial: Any = Trial("no trainable", config={"order": {"a": 1}}, stub=True, trial_id="abc")
    trial.update_last_result({"best/macro_f1": 0.5, "training_iteration": 1, "end": "completed"})
    callback = callback_of(recorder)

    callback.on_trial_complete(1, [trial], trial)

    state = trial.run_metadata
    assert recorder.told == [("ended", "t0003", "completed", "")]
    assert (state.metric_analysis, state.metric_n_steps, state.last_result, trial.config) == ({}, {}, {}, {})
    assert callback.trouble is None
