"""What Tune is answered when it asks for trials, and what the sampler hears of them."""

import time
from pathlib import Path
from typing import Any

import pytest

from search.folder import TrialRecord
from search.sampler import StudySampler
from search.searcher import SpaceSearcher
from search.state import SearchState, new_record
from search.study_journal import StudyJournal, read_events
from spaces.loading import parse_space

SPACE = parse_space("name: x\ndescription: x\nparameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}")


def searcher_of(folder: Path, state: SearchState | None = None, **limits: Any) -> SpaceSearcher:
    state = state or SearchState(StudySampler(SPACE, seed=0))
    limits = {"n_trials": 3, "deadline_s": None, "budget_s": None, **limits}
    folder.mkdir(exist_ok=True)
    journal = StudyJournal(folder / "study.jsonl", state.sampler.events)
    return SpaceSearcher(state, journal, order=lambda record, deadline_s: {"of": record.trial_id}, **limits)


def result(end: str = "", *, epoch: int = 1, best: float = 0.5) -> dict[str, Any]:
    return {"epoch": epoch, "best/macro_f1": best, "end": end}


def told(searcher: SpaceSearcher, folder: Path) -> list[tuple[str, str, float | None]]:
    events = read_events(folder / "study.jsonl")
    return [(e["trial_id"], e["end"], e["value"]) for e in events if e["event"] == "tell"]


def test_first_trial_is_the_default(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)

    answer = searcher.suggest("abc")

    assert answer == {"trial_id": "t0000", "order": {"of": "t0000"}}
    assert searcher.records["abc"].values == SPACE.default()


def test_search_is_finished_when_there_are_trials_enough(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, n_trials=2)

    answers = [searcher.suggest(name) for name in "abc"]
    for record in searcher.records.values():
        record.end = "completed"

    assert answers[2] is None  # one of the two may have to begin once more
    assert searcher.suggest("d") == SpaceSearcher.FINISHED
    assert len(searcher.records) == 2


def test_search_is_finished_when_it_was_halted(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)

    searcher.halt()

    assert searcher.suggest("a") == SpaceSearcher.FINISHED


def test_no_trial_begins_when_little_time_is_left(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, deadline_s=time.time() + 5.0, budget_s=100.0)

    assert searcher.suggest("a") == SpaceSearcher.FINISHED


def test_trial_begins_when_a_short_one_still_fits(tmp_path: Path) -> None:
    done = TrialRecord("t0000", 0, values=SPACE.default(), config={}, end="completed", wall_s=2.0)
    sampler = StudySampler(SPACE, seed=0)
    sampler.ask("t0000")
    state = SearchState(sampler, records=[done])

    searcher = searcher_of(tmp_path, state, deadline_s=time.time() + 5.0, budget_s=100.0)

    assert searcher.suggest("a") == {"trial_id": "t0001", "order": {"of": "t0001"}}


def test_unfinished_trials_come_before_new_ones(tmp_path: Path) -> None:
    sampler = StudySampler(SPACE, seed=0)
    records = [TrialRecord(f"t000{i}", i, values=sampler.ask(f"t000{i}"), config={}) for i in range(2)]
    records[0].end = "completed"

    searcher = searcher_of(tmp_path, SearchState(sampler, records=records))

    assert [searcher.suggest(name)["trial_id"] for name in "ab"] == ["t0001", "t0002"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("last", "end", "value"),
    [
        (result("completed", best=0.6), "completed", 0.6),
        (result("", best=0.2), "stopped", None),
        (result("diverged", best=0.0), "diverged", None),
        (result("failed", best=0.0), "failed", None),
    ],
    ids=["completed", "stopped", "diverged", "failed"],
)
def test_sampler_hears_every_end(tmp_path: Path, last: dict[str, Any], end: str, value: float | None) -> None:
    searcher = searcher_of(tmp_path)
    searcher.suggest("abc")

    searcher.on_trial_complete("abc", last)

    assert told(searcher, tmp_path) == [("t0000", end, value)]


def test_trial_that_tune_has_given_up_has_failed_or_comes_before_new_ones(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    for name in ("lost", "cursed"):
        searcher.suggest(name)
        searcher.on_trial_complete(name, error=True)
    before = told(searcher, tmp_path)

    searcher.fail("cursed")
    has_time = searcher.begin_again("lost")

    assert (before, has_time) == ([], True)
    assert told(searcher, tmp_path) == [("t0001", "failed", None)]
    assert [searcher.suggest(name)["trial_id"] for name in "cd"] == ["t0000", "t0002"]  # type: ignore[index]


def test_trial_that_tune_has_given_up_does_not_begin_again_in_a_search_that_was_halted(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    searcher.suggest("lost")

    searcher.halt()

    assert not searcher.begin_again("lost")
    assert searcher.suggest("next") == SpaceSearcher.FINISHED


def test_trial_that_tune_gives_up_after_all_were_ordered_still_begins_again(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, n_trials=1)

    searcher.suggest("lost")
    waits = searcher.suggest("none")
    searcher.begin_again("lost")

    assert waits is None
    assert searcher.suggest("again")["trial_id"] == "t0000"  # type: ignore[index]


def test_sampler_hears_every_epoch(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    searcher.suggest("abc")

    searcher.on_trial_result("abc", result(epoch=1, best=0.3))
    searcher.on_trial_result("abc", result(epoch=2, best=0.4))

    reports = [e for e in read_events(tmp_path / "study.jsonl") if e["event"] == "report"]
    assert [(e["epoch"], e["value"]) for e in reports] == [(1, 0.3), (2, 0.4)]


LAST_EPOCHS = parse_space(
    "name: x\ndescription: x\nfixed: {train.epochs: 3}\nparameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}"
)


def asked(folder: Path) -> list[str]:
    return [e["trial_id"] for e in read_events(folder / "study.jsonl") if e["event"] == "ask"]


def three_epochs(folder: Path, **limits: Any) -> SpaceSearcher:
    return searcher_of(folder, SearchState(StudySampler(LAST_EPOCHS, seed=0)), **limits)


def test_next_trial_is_asked_for_when_a_trial_enters_its_last_epoch(tmp_path: Path) -> None:
    searcher = three_epochs(tmp_path)
    searcher.suggest("a")

    searcher.on_trial_result("a", result(epoch=1))
    before = asked(tmp_path)
    searcher.on_trial_result("a", result(epoch=2))

    assert before == ["t0000"]
    assert asked(tmp_path) == ["t0000", "t0001"]
    assert searcher.suggest("b") == {"trial_id": "t0001", "order": {"of": "t0001"}}
    assert asked(tmp_path) == ["t0000", "t0001"]


def test_only_one_trial_is_asked_for_ahead(tmp_path: Path) -> None:
    searcher = three_epochs(tmp_path, n_trials=9, max_concurrent=2)
    searcher.suggest("a")
    searcher.suggest("b")

    for name in "ab":
        searcher.on_trial_result(name, result(epoch=2))

    assert asked(tmp_path) == ["t0000", "t0001", "t0002"]


def test_no_trial_is_asked_for_ahead_that_could_not_begin(tmp_path: Path) -> None:
    enough, halted = three_epochs(tmp_path / "enough", n_trials=1), three_epochs(tmp_path / "halted")
    late = three_epochs(tmp_path / "late", deadline_s=time.time() + 100.0, budget_s=100.0)
    for searcher in (enough, halted, late):
        searcher.suggest("a")
    halted.halt()
    late._deadline_s = time.time() + 1.0

    for searcher in (enough, halted, late):
        searcher.on_trial_result("a", result(epoch=2))

    assert [asked(tmp_path / name) for name in ("enough", "halted", "late")] == [["t0000"]] * 3


@pytest.mark.parametrize("n_trials", [1, 2, 5])
def test_search_ends_with_as_many_trials_as_it_was_asked_for(tmp_path: Path, n_trials: int) -> None:
    searcher = three_epochs(tmp_path, n_trials=n_trials)
    n_begun = 0

    while searcher.suggest(f"ray-{n_begun}") != SpaceSearcher.FINISHED:
        searcher.on_trial_result(f"ray-{n_begun}", result(epoch=2))
        searcher.on_trial_complete(f"ray-{n_begun}", result("completed", epoch=3))
        searcher.records[f"ray-{n_begun}"].end = "completed"
        n_begun += 1

    assert n_begun == n_trials == len(asked(tmp_path))


def test_trial_that_was_asked_for_ahead_and_found_no_time_is_begun_by_the_next_launch(tmp_path: Path) -> None:
    first = three_epochs(tmp_path, n_trials=None, deadline_s=time.time() + 100.0, budget_s=100.0)
    first.suggest("a")
    first.on_trial_result("a", result(epoch=2))
    first._deadline_s = time.time()

    assert first.suggest("b") is None
    sampler = StudySampler.replay(LAST_EPOCHS, 0, read_events(tmp_path / "study.jsonl"))
    left = new_record(sampler, "t0001")
    begun = TrialRecord("t0000", 0, values=LAST_EPOCHS.default(), config={}, end="completed")
    second = searcher_of(tmp_path, SearchState(sampler, records=[begun], proposed=[left]), n_trials=3)
    answers = [second.suggest(name) for name in "cde"]

    assert [answer["trial_id"] for answer in answers[:2]] == ["t0001", "t0002"]  # type: ignore[index]
    assert answers[2] is None


def test_trial_that_was_asked_for_ahead_is_not_begun_by_a_launch_that_wants_none_more(tmp_path: Path) -> None:
    sampler = StudySampler(LAST_EPOCHS, seed=0)
    sampler.ask("t0000")
    sampler.ask("t0001")
    begun = TrialRecord("t0000", 0, values=LAST_EPOCHS.default(), config={})

    searcher = searcher_of(
        tmp_path, SearchState(sampler, records=[begun], proposed=[new_record(sampler, "t0001")]), n_trials=1
    )

    assert searcher.suggest("a") == {"trial_id": "t0000", "order": {"of": "t0000"}}
    assert searcher.suggest("b") is None


def test_open_trial_behind_one_that_is_not_wanted_any_more_goes_on(tmp_path: Path) -> None:
    sampler = StudySampler(LAST_EPOCHS, seed=0)
    for name in ("t0000", "t0001"):
        sampler.ask(name)
    begun = TrialRecord("t0001", 1, values=LAST_EPOCHS.default(), config={})

    searcher = searcher_of(
        tmp_path, SearchState(sampler, records=[begun], proposed=[new_record(sampler, "t0000")]), n_trials=1
    )

    assert searcher.suggest("a") == {"trial_id": "t0001", "order": {"of": "t0001"}}
    assert searcher.suggest("b") is None


def test_searcher_is_through_when_it_has_nothing_more_and_all_has_ended(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, n_trials=1)

    searcher.suggest("a")
    with_more = searcher.is_through
    searcher.suggest("b")
    with_one_running = searcher.is_through
    searcher.records["a"].end = "completed"

    assert (with_more, with_one_running, searcher.is_through) == (False, False, True)


def test_proposals_of_a_search_with_one_worker_repeat(tmp_path: Path) -> None:
    def propose(folder: Path) -> list[Any]:
        searcher = three_epochs(folder, n_trials=12)
        for name in map(str, range(12)):
            searcher.suggest(name)
            for epoch in (1, 2):
                searcher.on_trial_result(name, result(epoch=epoch, best=0.1 * epoch))
            searcher.on_trial_complete(name, result("completed", epoch=3, best=0.5))
        return [record.values for record in searcher.records.values()]

    assert propose(tmp_path / "one") == propose(tmp_path / "two")


def test_shortest_completed_trial_says_whether_another_fits(tmp_path: Path) -> None:
    searcher = three_epochs(tmp_path, n_trials=None, deadline_s=time.time() + 30.0, budget_s=1000.0)
    searcher._shortest_s = [1.0]

    searcher.suggest("a")
    searcher.records["a"].end, searcher.records["a"].wall_s = "completed", 200.0

    assert isinstance(searcher.suggest("b"), dict)
