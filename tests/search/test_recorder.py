"""What is noted of a trial: on disk, in MLflow, on the screen; and whose weights stay."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.ends import TrialEnd
from search.folder import SearchFolder, TrialRecord
from search.lost_workers import Loss
from search.ranking import count_ends, rank, usable
from search.recorder import Recorder
from trainables.epochs import EPOCHS_FILE
from trainables.kept_epochs import SNAPSHOTS_DIR
from trainables.trainer import HEAD_FILE, WEIGHTS_FILE


class Notes:
    """A tracker and a screen that remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def start_run(self, key: str, **what: Any) -> None:
        self.told.append(("start", key, what["parent_key"]))

    def last_step(self, key: str) -> int:
        return max((told[2] for told in self.told if told[:2] == ("metrics", key)), default=0)

    def log_epoch(self, key: str, metrics: Mapping[str, Any], step: int) -> None:
        self.told.append(("metrics", key, step, sorted(metrics)))

    def log_summary(self, key: str, metrics: Mapping[str, Any]) -> None:
        self.told.append(("summary", key, metrics["best/macro_f1"]))

    def set_tags(self, key: str, tags: Mapping[str, Any]) -> None:
        self.told.append(("tags", key, dict(tags)))

    def end_run(self, key: str, end: TrialEnd, note: str = "") -> None:
        self.told.append(("end", key, end, note))

    def trial_started(self, record: TrialRecord) -> None:
        self.told.append(("shown", record.trial_id))

    def epoch(self, trial_id: str, report: Mapping[str, Any]) -> None:
        self.told.append(("shown epoch", trial_id))

    def trial_ended(self, trial_id: str, end: TrialEnd, *, best_macro_f1: float | None = None, error: str = "") -> None:
        self.told.append(("shown end", trial_id, end))


LOSS = Loss("preempted", "its machine went away", n=0, is_last=False)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def recorder(tmp_path: Path, notes: Notes) -> Recorder:
    return Recorder(
        SearchFolder(tmp_path), tracker=notes, parent_key="search", screen=notes, keep_weights=1  # type: ignore[arg-type]
    )  # fmt: skip


def new_record(number: int) -> TrialRecord:
    return TrialRecord(f"t{number:04d}", number, values={}, config={})


def report(epoch: int, best: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "best/macro_f1": best, "best/epoch": epoch, "end": "", **more}


def run_trial(recorder: Recorder, folder: Path, number: int, *, best: float, end: TrialEnd = "completed") -> None:
    record = new_record(number)
    recorder.trial_started(record)
    recorder.epoch(record.trial_id, report(1, best))
    for name in (WEIGHTS_FILE, HEAD_FILE, "checkpoint.pt", f"{SNAPSHOTS_DIR}/e0003.safetensors", EPOCHS_FILE):
        file = folder / "trials" / record.trial_id / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    recorder.trial_ended(record.trial_id, end)


def test_trial_is_on_disk_from_its_start_on(recorder: Recorder, tmp_path: Path, notes: Notes) -> None:
    recorder.trial_started(new_record(0))

    assert SearchFolder(tmp_path).read_records()[0].end is None
    assert ("start", "t0000", "search") in notes.told


def test_epoch_is_told_to_all(recorder: Recorder, tmp_path: Path, notes: Notes) -> None:
    recorder.trial_started(new_record(0))

    recorder.epoch("t0000", report(1, 0.5))

    assert SearchFolder(tmp_path).read_records()[0].best_macro_f1 == 0.5
    assert ("metrics", "t0000", 1, ["best/macro_f1"]) in notes.told
    assert ("shown epoch", "t0000") in notes.told


def test_failure_is_kept_with_its_sentence_and_without_its_score(
    recorder: Recorder, tmp_path: Path, notes: Notes
) -> None:
    recorder.trial_started(new_record(0))
    recorder.epoch("t0000", report(0, 0.0, end="failed", error="the disk is full"))
    recorder.trial_ended("t0000", "failed")

    record = SearchFolder(tmp_path).read_records()[0]

    assert (record.end, record.error, record.best_macro_f1) == ("failed", "the disk is full", None)
    assert ("end", "t0000", "failed", "the disk is full") in notes.told


def test_epoch_is_told_to_mlflow_once_when_it_is_run_again(recorder: Recorder, notes: Notes) -> None:
    recorder.trial_started(new_record(0))

    for epoch in (1, 2, 2, 3):
        recorder.epoch("t0000", report(epoch, 0.5))

    assert [told[2] for told in notes.told if told[0] == "metrics"] == [1, 2, 3]


def test_first_word_on_an_end_counts(recorder: Recorder, notes: Notes) -> None:
    recorder.trial_started(new_record(0))

    recorder.epoch("t0000", report(1, 0.5, end="completed"))
    recorder.trial_ended("t0000", "failed", error="worker was lost")
    recorder.trial_ended("t0000", "failed", error="worker was lost")

    assert (recorder.records["t0000"].end, recorder.records["t0000"].error) == ("completed", "")
    assert [told[2] for told in notes.told if told[0] == "end"] == ["completed"]


def test_lost_worker_is_counted_and_is_no_end(recorder: Recorder, notes: Notes) -> None:
    recorder.trial_started(new_record(0))

    recorder.worker_lost("t0000", LOSS)

    assert recorder.records["t0000"].n_preempted == 1
    assert recorder.records["t0000"].end is None
    assert ("tags", "t0000", {"affectune.n_preempted": 1, "affectune.n_lost": 0}) in notes.told


def test_worker_that_crashed_or_hung_is_counted_apart(recorder: Recorder) -> None:
    recorder.trial_started(new_record(0))

    recorder.worker_lost("t0000", replace(LOSS, cause="hung"))

    assert (recorder.records["t0000"].n_preempted, recorder.records["t0000"].n_lost) == (0, 1)


def test_open_trials_are_preempted_when_the_search_is_interrupted(recorder: Recorder) -> None:
    recorder.trial_started(new_record(0))
    recorder.trial_started(new_record(1))
    recorder.trial_ended("t0000", "completed")

    closed = recorder.close_open_trials()

    assert [record.trial_id for record in closed] == ["t0001"]
    assert recorder.records["t0001"].end == "preempted"


def test_weights_stay_for_the_default_and_the_best(recorder: Recorder, tmp_path: Path) -> None:
    for number, best in enumerate((0.1, 0.3, 0.5, 0.4)):
        run_trial(recorder, tmp_path, number, best=best)

    assert sorted(file.parent.name for file in tmp_path.rglob(WEIGHTS_FILE)) == ["t0000", "t0002"]
    assert sorted(file.parent.name for file in tmp_path.rglob(HEAD_FILE)) == ["t0000", "t0002"]


def test_late_epochs_go_with_the_weights_and_scores_stay(recorder: Recorder, tmp_path: Path) -> None:
    for number, best in enumerate((0.1, 0.3, 0.5)):
        run_trial(recorder, tmp_path, number, best=best)

    assert sorted(path.parent.name for path in tmp_path.rglob(SNAPSHOTS_DIR)) == ["t0000", "t0002"]
    assert len(list(tmp_path.glob(f"trials/*/{EPOCHS_FILE}"))) == 3


def test_checkpoint_goes_when_a_trial_was_stopped(recorder: Recorder, tmp_path: Path) -> None:
    run_trial(recorder, tmp_path, 0, best=0.5, end="stopped")

    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_checkpoint_stays_when_a_trial_was_preempted(recorder: Recorder, tmp_path: Path) -> None:
    run_trial(recorder, tmp_path, 0, best=0.5, end="preempted")

    assert list(tmp_path.rglob("checkpoint.pt"))


def scored(number: int, best: float | None, end: TrialEnd | None = "completed") -> TrialRecord:
    record = new_record(number)
    record.best_macro_f1, record.end = best, end
    return record


def test_rank_puts_the_best_first_and_the_unscored_last() -> None:
    ranked = rank([scored(0, 0.2), scored(1, None), scored(2, 0.7), scored(3, 0.2)])

    assert [record.number for record in ranked] == [2, 0, 3, 1]


def test_usable_leaves_out_what_diverged_or_failed() -> None:
    records = [scored(0, 0.2), scored(1, 0.9, "diverged"), scored(2, 0.9, "failed"), scored(3, 0.4, "preempted")]

    assert [record.number for record in usable(records)] == [3, 0]


def test_open_trials_count_as_preempted() -> None:
    ends = count_ends([scored(0, 0.1), scored(1, 0.1, None), scored(2, 0.1, "stopped")])

    assert ends == {"completed": 1, "stopped": 1, "diverged": 0, "failed": 0, "preempted": 1}


def test_weights_of_each_trial_are_looked_for_once(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    unlink = Path.unlink

    def note(path: Path, missing_ok: bool = False) -> None:
        looked.append(path.name)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", note)

    for number in range(1, 31):
        run_trial(recorder, tmp_path, number, best=0.01 * number)

    assert looked.count(WEIGHTS_FILE) == 29
    assert [path.parent.name for path in tmp_path.glob(f"trials/*/{WEIGHTS_FILE}")] == ["t0030"]


def test_weights_of_earlier_launches_go_when_a_better_trial_ends(tmp_path: Path, notes: Notes) -> None:
    earlier = TrialRecord("t0001", 1, values={}, config={}, end="completed", best_macro_f1=0.4)
    weights = tmp_path / "trials" / "t0001" / WEIGHTS_FILE
    weights.parent.mkdir(parents=True)
    weights.touch()
    recorder = Recorder(
        SearchFolder(tmp_path), tracker=notes, parent_key="search", screen=notes, keep_weights=1, earlier=[earlier]
    )

    run_trial(recorder, tmp_path, 2, best=0.5)

    assert not weights.exists()


def test_record_is_written_once_with_its_end(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[TrialEnd | None] = []
    monkeypatch.setattr(SearchFolder, "write_record", lambda _, record: ends.append(record.end))
    recorder.trial_started(new_record(0))

    recorder.epoch("t0000", report(1, 0.4))
    recorder.epoch("t0000", {**report(2, 0.5), "end": "completed"})
    recorder.trial_ended("t0000", "completed")

    assert ends == [None, None, "completed"]


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No record can be written."""

    def fail(*_: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as full:
        full.setattr(SearchFolder, "write_record", fail)
        yield


def test_end_that_could_not_be_written_with_its_epoch_is_written_when_the_trial_is_over(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.trial_started(new_record(0))
    with full_disk(monkeypatch), pytest.raises(OSError, match="no space"):
        recorder.epoch("t0000", {**report(1, 0.5), "end": "completed"})

    recorder.trial_ended("t0000", "completed")

    assert SearchFolder(tmp_path).read_records()[0].end == "completed"


def test_worker_that_is_lost_before_its_trial_began_is_no_trouble(recorder: Recorder, notes: Notes) -> None:
    recorder.worker_lost("t0000", LOSS)

    assert notes.told == []


def test_end_that_could_not_be_written_is_written_when_the_search_closes(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.trial_started(new_record(0))
    with full_disk(monkeypatch), pytest.raises(OSError, match="no space"):
        recorder.trial_ended("t0000", "stopped")

    recorder.close_open_trials()

    assert SearchFolder(tmp_path).read_records()[0].end == "stopped"
