"""Where a search stands, read from a folder as a killed driver may leave it."""

from pathlib import Path
from typing import Any, cast

import pytest

from search.folder import STUDY_FILE, SearchFolder, SearchManifest
from search.folder_lock import only_driver
from search.resume import More, time_left, total_trials
from search.sampler import StudySampler
from search.state import SearchState, load_state, new_record, settle_runs
from search.storage import create_folder
from search.study_journal import StudyJournal
from spaces.errors import SearchError, UsageError
from spaces.loading import parse_space

SPACE = parse_space("""
name: small
description: one dimension
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
""")


@pytest.fixture
def folder(tmp_path: Path) -> SearchFolder:
    """A search of three trials: the first complete, the second running, the third proposed and never started."""
    there = SearchFolder(tmp_path / "cut")
    sampler = StudySampler(SPACE)
    for number in range(3):
        sampler.ask(f"t{number:04d}")
    first, second = new_record(sampler, "t0000"), new_record(sampler, "t0001")
    first.add_epoch({"epoch": 1, "best/macro_f1": 0.5, "best/epoch": 1})
    first.end = "completed"
    there.write_record(first)
    there.write_record(second)
    StudyJournal(there.path / STUDY_FILE, sampler.events).close()
    return there


def manifest(**changes: Any) -> SearchManifest:
    fields = {"name": "cut", "data": "faces", "content_hash": "1", "classes": ("a", "b"), "seed": 0, "n_trials": 10}
    return SearchManifest(**{**fields, "time_budget_s": None, "tracking_uri": "sqlite:///x.db", **changes})


def ids(records: Any) -> list[str]:
    return [record.trial_id for record in records]


def test_state_knows_what_goes_on_first(folder: SearchFolder) -> None:
    state = load_state(folder, SPACE, seed=0)

    assert ids(state.unfinished) == ["t0001", "t0002"]
    assert (state.n_trials, state.next_number) == (3, 3)
    assert state.sampler.running() == ["t0001", "t0002"]


def test_state_repeats_no_id_and_no_config(folder: SearchFolder) -> None:
    state = load_state(folder, SPACE, seed=0)
    before = [new_record(state.sampler, f"t{number:04d}").config for number in range(3)]

    state.sampler.ask("t0003")

    assert new_record(state.sampler, "t0003").config not in before


def test_state_takes_a_preempted_trial_up_again(folder: SearchFolder) -> None:
    interrupted = folder.read_records()[1]
    interrupted.end = "preempted"
    folder.write_record(interrupted)

    assert ids(load_state(folder, SPACE, seed=0).unfinished) == ["t0001", "t0002"]


def test_state_is_found_without_a_journal(folder: SearchFolder) -> None:
    (folder.path / STUDY_FILE).unlink()

    state = load_state(folder, SPACE, seed=0)

    assert ids(state.unfinished) == ["t0001"]
    assert state.next_number == 2


def test_state_orders_a_trial_again_whose_record_is_missing(folder: SearchFolder) -> None:
    (folder.trial_dir("t0001") / "trial.json").unlink()

    state = load_state(folder, SPACE, seed=0)

    assert ids(state.unfinished) == ["t0001", "t0002"]
    assert ids(state.proposed) == ["t0001", "t0002"]


def test_new_search_begins_with_nothing() -> None:
    state = SearchState(StudySampler(SPACE))

    assert (state.unfinished, state.n_trials, state.next_number) == ([], 0, 0)


class FakeTracker:
    """Notes what it is told."""

    experiment_id = None

    def __init__(self, unfinished: list[str], last_steps: dict[str, int]) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.unfinished = lambda: unfinished
        self.last_step = lambda key: last_steps.get(key, 0)

    def log_epoch(self, key: str, metrics: dict[str, float], step: int) -> None:
        self.said.append(("epoch", key, step))

    def log_summary(self, key: str, metrics: dict[str, float]) -> None:
        self.said.append(("summary", key))

    def set_tags(self, key: str, tags: dict[str, Any]) -> None:
        self.said.append(("tags", key, tags))

    def end_run(self, key: str, end: str, note: str = "") -> None:
        self.said.append(("end", key, end))


def test_settling_tells_mlflow_what_a_killed_driver_did_not(folder: SearchFolder) -> None:
    tracker = FakeTracker(["search", "search/b000", "t0000", "t0001"], {})

    settle_runs(cast(Any, tracker), folder.read_records())

    notes = [said for said in tracker.said if said[0] == "tags"]
    assert [said[1] for said in notes] == ["search"] and "**interrupted**: 1 trials (1 completed)" in str(notes[0][2])
    assert [said for said in tracker.said if said not in notes] == [
        ("end", "search", "interrupted"),
        ("end", "search/b000", "preempted"),
        ("epoch", "t0000", 1),  # which holds the best score too
        ("end", "t0000", "completed"),
        ("end", "t0001", "preempted"),
    ]


def test_settling_repeats_no_epoch(folder: SearchFolder) -> None:
    tracker = FakeTracker(["t0000"], {"t0000": 1})

    settle_runs(cast(Any, tracker), folder.read_records())

    assert tracker.said == [("end", "t0000", "completed")]


def test_settling_sums_up_what_the_last_epoch_did_not_say(folder: SearchFolder) -> None:
    record = folder.read_records()[0]
    record.history[-1]["best/macro_f1"] = 0.1
    tracker = FakeTracker(["t0000"], {"t0000": 1})

    settle_runs(cast(Any, tracker), [record])

    assert tracker.said == [("summary", "t0000"), ("end", "t0000", "completed")]


def test_settling_tells_mlflow_of_a_trial_that_was_spared(folder: SearchFolder) -> None:
    spared = folder.read_records()[0]
    spared.spared = 120
    tracker = FakeTracker(["t0000"], {"t0000": 1})

    settle_runs(cast(Any, tracker), [spared])

    assert ("tags", "t0000", {"affectune.spared": 120}) in tracker.said


@pytest.mark.parametrize(
    ("more", "n_trials"),
    [(More(), 10), (More(n_trials=20), 20), (More(n_more=5), 15), (More(time_budget_s=60), 10)],
    ids=["nothing more", "a total", "so many more", "time alone"],
)
def test_total_counts_from_what_was_asked_for(more: More, n_trials: int) -> None:
    assert total_trials(manifest(), more, n_begun=4) == n_trials


def test_total_counts_from_what_is_there_where_time_alone_bounded_the_search() -> None:
    by_time = manifest(n_trials=None, time_budget_s=60.0)

    assert total_trials(by_time, More(n_more=5), n_begun=4) == 9
    assert total_trials(by_time, More(), n_begun=4) is None


def test_time_left_is_what_was_not_spent() -> None:
    by_time = manifest(n_trials=None, time_budget_s=100.0)

    assert time_left(by_time, More(), spent_s=40.0) == 60.0
    assert time_left(by_time, More(time_budget_s=30.0), spent_s=40.0) == 30.0
    assert time_left(by_time, More(n_more=3), spent_s=100.0) is None


def test_time_left_asks_for_more_where_all_is_spent() -> None:
    by_time = manifest(n_trials=None, time_budget_s=100.0)

    with pytest.raises(UsageError, match=r"must have time left, got 0 s of its 100; give --trials or --time-budget"):
        time_left(by_time, More(), spent_s=103.0)


def test_time_of_a_killed_launch_counts_until_its_last_word(folder: SearchFolder) -> None:
    last_s = max(file.stat().st_mtime for file in folder.path.rglob("*.json*"))
    folder.write_manifest(manifest(wall_s=100.0, launched_s=last_s - 50.0))

    assert folder.spent_s() == pytest.approx(150.0, abs=1.0)
    assert folder.update_manifest(status="interrupted").wall_s == folder.spent_s()


def test_folder_is_held_by_one_command(folder: SearchFolder) -> None:
    with (
        only_driver(folder),
        pytest.raises(SearchError, match=r"one command at a time, got process \d+ on \S+: .*cut; wait for it"),
        only_driver(folder),
    ):
        pass

    with only_driver(folder):
        pass


def test_folder_is_not_left_behind_by_a_launch_that_never_began(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), only_driver(SearchFolder(tmp_path / "runs" / "new")):
        raise RuntimeError("no cluster answers")

    assert list(tmp_path.iterdir()) == []


def test_name_is_free_again_after_a_launch_that_was_killed_before_its_search_began(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    for left in ("lock", "space.yaml", ".search.json.7.partial"):
        (tmp_path / "cut" / left).touch()

    assert create_folder(tmp_path, "cut").name == "cut"
