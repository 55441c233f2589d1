"""What Tune is answered when it asks for trials, and what the sampler hears of them."""

import time
from pathlib import Path
from typing import Any

import pytest

from search.folder import TrialRecord
from search.sampler import StudySampler
from search.searcher import SpaceSearcher
from search.state import SearchState
from search.study_journal import StudyJournal, read_events
from spaces.loading import parse_space

SPACE = parse_space("name: x\ndescription: x\nparameters: {optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2]}}")


def searcher_of(folder: Path, state: SearchState | None = None, **limits: Any) -> SpaceSearcher:
    state = state or SearchState(StudySampler(SPACE, seed=0))
    limits = {"n_trials": 3, "deadline_s": None, "budget_s": None, **limits}
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

    assert answers[2] == SpaceSearcher.FINISHED
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
        (None, "failed", None),
    ],
    ids=["completed", "stopped", "diverged", "failed", "worker lost"],
)
def test_sampler_hears_every_end(tmp_path: Path, last: dict[str, Any] | None, end: str, value: float | None) -> None:
    searcher = searcher_of(tmp_path)
    searcher.suggest("abc")

    searcher.on_trial_complete("abc", last)

    assert told(searcher, tmp_path) == [("t0000", end, value)]


def test_sampler_hears_every_epoch(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    searcher.suggest("abc")

    searcher.on_trial_result("abc", result(epoch=1, best=0.3))
    searcher.on_trial_result("abc", result(epoch=2, best=0.4))

    reports = [e for e in read_events(tmp_path / "study.jsonl") if e["event"] == "report"]
    assert [(e["epoch"], e["value"]) for e in reports] == [(1, 0.3), (2, 0.4)]
