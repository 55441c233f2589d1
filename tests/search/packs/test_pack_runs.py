"""What MLflow is told of packs: a run and a table each, and runs of their own for the best trials alone."""

import csv
from pathlib import Path
from typing import Any

import pytest

from search.ends import TrialEnd
from search.folder import SearchFolder, TrialRecord
from search.packs.runs import BEST_RUNS, PackRuns, trial_table
from search.packs.searcher import Pack
from spaces.config import TrialConfig


class Notes:
    """A tracker that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def is_known(self, key: str) -> bool:
        return ("start", key) in self.told

    def start_run(self, key: str, **words: Any) -> None:
        self.told.append(("start", key))

    def log_epoch(self, key: str, metrics: dict[str, float], step: int) -> None:
        self.told.append(("epoch", key, step))

    def log_summary(self, key: str, metrics: dict[str, float]) -> None:
        self.told.append(("summary", key, metrics.get("best/macro_f1")))

    def log_artifact(self, key: str, path: Path) -> None:
        self.told.append(("artifact", key, path.name))

    def end_run(self, key: str, end: str, note: str = "") -> None:
        self.told.append(("end", key, end))


def ended(number: int, score: float | None, *, end: TrialEnd = "completed") -> TrialRecord:
    config = TrialConfig.from_flat({"train.epochs": 0, "train.head_epochs": 1}).to_flat()
    record = TrialRecord(f"t{number:04d}", number, {"loss.label_smoothing": 0.1 * number}, config)
    if score is not None:
        record.add_epoch({"epoch": 1, "best/macro_f1": score, "best/epoch": 1, "end": end})
    record.end = end
    return record


def ends_in(table: Path) -> dict[str, str]:
    return {row["trial"]: row["end"] for row in csv.DictReader(table.open(encoding="utf-8"))}


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def runs(tmp_path: Path, notes: Notes) -> PackRuns:
    return PackRuns(notes, "search", SearchFolder(tmp_path))  # type: ignore[arg-type]


def test_pack_gets_one_run_with_the_table_of_its_trials(runs: PackRuns, notes: Notes, tmp_path: Path) -> None:
    pack = Pack("pack-0001", [ended(0, 0.2), ended(1, 0.4), ended(2, None, end="failed")])

    runs.started(pack)
    runs.started(pack)  # its worker was lost, and it began again
    runs.ended(pack)

    key = "search/pack-0001"
    assert notes.told == [
        ("start", key),
        ("artifact", key, "pack-0001.csv"),
        ("summary", key, 0.4),
        ("end", key, "completed"),
    ]
    rows = list(csv.DictReader((tmp_path / "packs" / "pack-0001.csv").open(encoding="utf-8")))
    assert [row["trial"] for row in rows] == ["t0001", "t0000", "t0002"]
    assert (rows[0]["macro_f1"], rows[2]["end"]) == ("0.400000", "failed")


def test_pack_without_a_score_ends_as_failed(runs: PackRuns, notes: Notes) -> None:
    pack = Pack("pack-0001", [ended(0, None, end="failed")])

    runs.started(pack)
    runs.ended(pack)

    assert notes.told[-1] == ("end", "search/pack-0001", "failed")


def test_pack_whose_workers_were_lost_before_it_began_has_a_run_and_a_table(
    runs: PackRuns, notes: Notes, tmp_path: Path
) -> None:
    runs.ended(Pack("pack-0001", [ended(0, None, end="failed")]))

    assert [told[0] for told in notes.told] == ["start", "artifact", "summary", "end"]
    assert (tmp_path / "packs" / "pack-0001.csv").exists()


def test_pack_that_the_search_was_cut_in_is_preempted_and_has_its_table(
    runs: PackRuns, notes: Notes, tmp_path: Path
) -> None:
    whole = Pack("pack-0001", [ended(0, 0.2)])
    cut = Pack("pack-0002", [ended(1, 0.4), ended(2, None, end="preempted")])
    runs.started(whole)
    runs.started(cut)
    runs.ended(whole)

    runs.close_open_packs()
    runs.close_open_packs()

    ends = [told[1:] for told in notes.told if told[0] == "end"]
    assert ends == [("search/pack-0001", "completed"), ("search/pack-0002", "preempted")]
    assert ends_in(tmp_path / "packs" / "pack-0002.csv") == {"t0001": "completed", "t0002": "preempted"}


def test_packs_are_numbered_after_the_highest_there_is(runs: PackRuns) -> None:
    assert runs.last_pack == 0

    runs.ended(Pack("pack-0002", [ended(1, 0.4)]))
    runs.ended(Pack("pack-0003", [ended(2, 0.5)]))

    assert runs.last_pack == 3


def test_trials_that_ended_in_a_pack_whose_driver_was_killed_get_a_table(
    runs: PackRuns, notes: Notes, tmp_path: Path
) -> None:
    told, lost, still_open = ended(0, 0.2), [ended(1, 0.3), ended(2, 0.4)], ended(3, None)
    still_open.end = None
    cut_before = TrialRecord("t0002", 2, {}, lost[1].config, end="preempted")
    runs.ended(Pack("pack-0001", [told, cut_before]))

    runs.keep_lost_trials([told, *lost, still_open])
    runs.keep_lost_trials([told, *lost, still_open])

    assert ends_in(tmp_path / "packs" / "pack-0002.csv") == {"t0001": "completed", "t0002": "completed"}
    assert runs.last_pack == 2
    assert notes.told[-1] == ("end", "search/pack-0002", "completed")


def test_only_the_best_trials_and_the_default_get_runs_of_their_own(runs: PackRuns, notes: Notes) -> None:
    records = [ended(number, 0.01 * number) for number in range(BEST_RUNS + 5)]

    runs.publish_best(records)
    runs.publish_best(records)

    started = [told[1] for told in notes.told if told[0] == "start"]
    assert started == ["t0000", *(f"t{number:04d}" for number in range(BEST_RUNS + 4, 4, -1))]


def test_table_of_trials_quotes_what_would_break_a_line() -> None:
    record = ended(0, None, end="failed")
    record.error = 'weights must be there, got "a,\nb"'

    rows = list(csv.DictReader(trial_table([record]).splitlines(keepends=True)))

    assert rows[0]["error"] == record.error
