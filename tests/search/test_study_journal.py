"""The sampler's journal on disk, and what the trials' records add to it."""

from pathlib import Path
from typing import Any

from search.ends import TrialEnd
from search.folder import TrialRecord
from search.sampler import Event, StudySampler
from search.study_journal import StudyJournal, merge, read_events
from spaces.loading import parse_space

SPACE = parse_space("""
name: small
description: two dimensions
parameters:
  optimiser.lr: {log_uniform: [1.0e-4, 1.0e-2], default: 1.0e-3}
  loss.label_smoothing: {uniform: [0.0, 0.6], default: 0.1}
""")


def record(number: int, scores: list[float], *, end: TrialEnd | None, values: dict[str, Any]) -> TrialRecord:
    """A trial as the driver noted it."""
    history = [{"epoch": epoch, "best/macro_f1": score} for epoch, score in enumerate(scores, start=1)]
    best = scores[-1] if scores else None
    return TrialRecord(f"t{number:04d}", number, values, config={}, end=end, best_macro_f1=best, history=history)


def sampler_with(n_trials: int) -> StudySampler:
    """A sampler that has proposed some trials; the first has run two epochs and is complete."""
    sampler = StudySampler(SPACE, seed=3)
    for number in range(n_trials):
        sampler.ask(f"t{number:04d}")
    sampler.report("t0000", 1, 0.4)
    sampler.tell("t0000", "completed", value=0.5)
    return sampler


def kinds(events: list[Event], trial_id: str) -> list[str]:
    return [event["event"] for event in events if event["trial_id"] == trial_id]


def test_journal_gives_back_what_was_followed(tmp_path: Path) -> None:
    sampler = sampler_with(2)
    journal = StudyJournal(tmp_path / "study.jsonl")
    journal.follow(sampler.events[:2])
    journal.follow(sampler.events)
    journal.close()

    assert read_events(tmp_path / "study.jsonl") == list(sampler.events)


def test_journal_of_a_new_search_is_empty(tmp_path: Path) -> None:
    assert read_events(tmp_path / "study.jsonl") == []


def test_journal_drops_a_torn_last_line(tmp_path: Path) -> None:
    path, sampler = tmp_path / "study.jsonl", sampler_with(2)
    StudyJournal(path, sampler.events).close()
    path.write_bytes(path.read_bytes()[:-9])

    assert read_events(path) == list(sampler.events[:-1])


def test_journal_is_whole_again_when_it_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path, sampler = tmp_path / "study.jsonl", sampler_with(2)
    StudyJournal(path, sampler.events).close()
    path.write_bytes(path.read_bytes()[:-9])

    StudyJournal(path, merge(read_events(path), [])).close()

    assert read_events(path) == list(sampler.events[:-1])
    assert path.read_bytes().endswith(b"}\n")


def test_replayed_journal_proposes_what_would_have_come_next(tmp_path: Path) -> None:
    sampler = sampler_with(3)
    StudyJournal(tmp_path / "study.jsonl", sampler.events).close()

    replayed = StudySampler.replay(SPACE, 3, merge(read_events(tmp_path / "study.jsonl"), []))

    assert replayed.ask("t0003") == sampler.ask("t0003")


def test_merge_tells_the_end_that_only_the_record_knows() -> None:
    sampler = StudySampler(SPACE, seed=3)
    values = sampler.ask("t0000")
    sampler.report("t0000", 1, 0.4)

    merged = merge(sampler.events, [record(0, [0.4, 0.5], end="completed", values=values)])

    assert kinds(merged, "t0000") == ["ask", "report", "report", "tell"]
    assert StudySampler.replay(SPACE, 3, merged).study.best_value == 0.5


def test_merge_asks_for_a_trial_that_only_the_record_knows() -> None:
    values = StudySampler(SPACE, seed=3).ask("t0000")

    merged = merge([], [record(0, [0.4], end="stopped", values=values)])

    assert kinds(merged, "t0000") == ["ask", "report", "tell"]
    assert StudySampler.replay(SPACE, 3, merged).running() == []


def test_merge_leaves_a_preempted_trial_and_one_without_a_record_running() -> None:
    sampler = sampler_with(3)
    values = sampler.ask("t0001")

    merged = merge(sampler.events, [record(1, [0.3], end="preempted", values=values)])

    assert StudySampler.replay(SPACE, 3, merged).running() == ["t0001", "t0002"]


def test_merge_changes_nothing_where_nothing_is_missing() -> None:
    sampler = sampler_with(2)
    values = sampler.ask("t0000")

    merged = merge(sampler.events, [record(0, [0.4, 0.5], end="completed", values=values)])

    assert merged == list(sampler.events)


def test_journal_drops_lines_that_are_no_events(tmp_path: Path) -> None:
    path, sampler = tmp_path / "study.jsonl", sampler_with(2)
    StudyJournal(path, sampler.events).close()
    lines = path.read_bytes().splitlines(keepends=True)
    odd = [b'{"event": "sing", "trial_id": "t0000"}\n', b'{"trial_id": 7}\n', b"[" * 50_000 + b"\n", b"\xff\n"]
    path.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", *odd, *lines[2:]]))

    assert read_events(path) == [sampler.events[0], *sampler.events[2:]]
