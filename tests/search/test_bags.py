"""The bags of a final job: found again, gone on with, trained anew, forgotten."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.bag_record import BagRecord, end_bag, iter_bags, read_bag, write_bag
from search.bags import bag_candidates, clear_bags, find_bag
from search.candidates import Candidate
from search.console import SearchConsole
from search.ensemble.bagging import HISTORY_FILE, read_history
from search.folder import SearchFolder, TrialRecord
from search.plan import EnsemblePlan
from search.tracking import Tracker
from search.wanted_bags import wanted_bags
from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.out_of_bag import OUT_OF_BAG_FILE, out_of_bag
from trainables.run import TrialOrder, TrialRun
from trainables.scores import SCORES_FILE, load_scores
from trainables.trainer import WEIGHTS_FILE

SMALL = {"model.backbone": "test_efficientnet", "model.weights": "none", "model.image_px": 32, "train.epochs": 2}
RANKED = [
    TrialRecord(f"t{number:04d}", number, {}, dict(TrialConfig.from_flat({**SMALL, "optimiser.lr": lr}).to_flat()))
    for number, lr in ((2, 1e-2), (1, 5e-3))
]


class Job:
    """Final jobs on one search's folder, what they said, and what MLflow was told."""

    def __init__(self, folder: Path, table: FaceTable) -> None:
        self.folder, self.table = SearchFolder(folder), table
        self.said = StringIO()

    def bags(self, **plan: Any) -> list[Candidate]:
        """The candidates of one more final job."""
        self.said = StringIO()
        screen = SearchConsole(
            default={}, noun="bag", n_trials=None, time_budget_s=None, console=Console(file=self.said, width=200)
        )
        tracker = Tracker("http://127.0.0.1:9", "bags", self.folder.tracking_dir, on_trouble=lambda _: None)
        if tracker.launch_key is None:
            tracker.start_search(name="launch")
        wanted = EnsemblePlan(**{"time_budget_s": 600.0, "max_concurrent": 1, **plan})
        try:
            return bag_candidates(self.folder, self.table, RANKED, plan=wanted, screen=screen, tracker=tracker)
        finally:
            tracker.close(timeout_s=0)

    def told(self, operation: str) -> Iterator[dict[str, Any]]:
        """What MLflow was told of one kind, by all jobs."""
        lines = (self.folder.tracking_dir / "operations.jsonl").read_text().splitlines()
        return (line for line in map(json.loads, lines) if line["op"] == operation)


@pytest.fixture
def job(face_table: FaceTable, tmp_path: Path) -> Job:
    return Job(tmp_path / "search", face_table)


def wanted(table: FaceTable, **plan: Any) -> list[BagRecord]:
    return wanted_bags(RANKED, table.split("train"), plan=EnsemblePlan(**plan))


def begin(folder: Path, bag: BagRecord, table: FaceTable) -> None:
    """A bag whose job was killed after its first epoch."""
    write_bag(folder, bag)
    order = TrialOrder("b", bag.settings, str(table.path), str(folder), checkpoint_share=1.0)
    report = TrialRun(order).step()
    (folder / HISTORY_FILE).write_text(json.dumps(report) + "\n")


@pytest.mark.ray
def test_bags_of_each_config_come_back_in_order_and_are_never_trained_again(ray_local: None, job: Job) -> None:
    first = job.bags(n_bags=2, n_configs=2)
    trained = job.said.getvalue()
    stamps = [(candidate.folder / WEIGHTS_FILE).stat().st_mtime_ns for candidate in first]

    again = job.bags(n_bags=2, n_configs=2)

    assert [candidate.key for candidate in first] == [candidate.key for candidate in again]
    assert [bag.trial_id for _, bag in iter_bags(job.folder.ensemble_dir)] == ["t0002", "t0001", "t0002", "t0001"]
    assert len({candidate.config["train.seed"] for candidate in first}) == 2
    assert [(candidate.folder / WEIGHTS_FILE).stat().st_mtime_ns for candidate in again] == stamps
    assert "b003 completed" in trained and "there already" not in trained
    assert "bags: 4 there already, 0 to go on with, 0 in training now" in job.said.getvalue()
    assert len([run for run in job.told("start") if run["key"].endswith("/b000")]) == 1
    assert all(candidate.is_complete for candidate in again)
    seen_by_none = out_of_bag([candidate.folder for candidate in again])
    assert seen_by_none is not None and 0 < len(seen_by_none.labels) < 240


@pytest.mark.ray
def test_bag_that_was_begun_goes_on_in_its_folder(ray_local: None, job: Job, tmp_path: Path) -> None:
    (bag,) = wanted(job.table, n_bags=1, n_configs=1)
    begin(job.folder.ensemble_dir / "b007", bag, job.table)

    (candidate,) = job.bags(n_bags=1, n_configs=1)

    assert candidate.key == "b007"
    assert [report["epoch"] for report in read_history(candidate.folder)] == [1, 2]
    assert [line["step"] for line in job.told("metrics") if "valid/macro_f1" in line["values"]] == [1, 2]
    assert "b007 epoch 1" not in job.said.getvalue() and "b007 epoch 2" in job.said.getvalue()
    assert "0 there already, 1 to go on with, 1 in training now" in job.said.getvalue()
    whole = Job(tmp_path / "other", job.table).bags(n_bags=1, n_configs=1)[0]
    assert load_scores(candidate.folder / SCORES_FILE).logits.tolist() == whole.scores.logits.tolist()
    assert (candidate.folder / OUT_OF_BAG_FILE).exists()


@pytest.mark.ray
def test_bag_that_failed_is_trained_under_a_new_number_and_forgotten(ray_local: None, job: Job) -> None:
    (bag,) = wanted(job.table, n_bags=1, n_configs=1)
    failed = job.folder.ensemble_dir / "b000"
    end_bag(failed, bag, "failed", error="the disk was full")
    other = job.folder.ensemble_dir / "b001"
    end_bag(other, wanted(job.table, n_bags=1, n_configs=1, seed=5)[0], "completed")

    (candidate,) = job.bags(n_bags=1, n_configs=1)
    clear_bags(job.folder)

    assert candidate.key == "b002"
    assert [folder.name for folder, _ in iter_bags(job.folder.ensemble_dir)] == ["b001", "b002"]


@pytest.mark.ray
def test_late_epochs_follow_their_bag(ray_local: None, job: Job) -> None:
    bags = job.bags(n_bags=1, n_configs=1, n_snapshots=1)

    again = job.bags(n_bags=1, n_configs=1)

    assert [candidate.key[:4] for candidate in bags] == ["b000", "b000"]
    assert bags[1].key.startswith("b000e")
    assert [candidate.key for candidate in again] == ["b000"]  # which keeps more than is wanted now


def test_job_without_bags_starts_nothing(job: Job) -> None:
    assert job.bags(n_bags=0) == []
    assert not job.folder.ensemble_dir.exists()


def stored(ensemble_dir: Path, bag: BagRecord, name: str, end: Any) -> Path:
    """A bag's folder as it was left, without a network in it."""
    folder = ensemble_dir / name
    write_bag(folder, bag)
    if end:
        end_bag(folder, bag, end)
    return folder


def test_bag_that_has_ended_goes_before_one_that_was_begun(face_table: FaceTable, tmp_path: Path) -> None:
    (bag,) = wanted(face_table, n_bags=1, n_configs=1)
    for name, end in (("b000", "failed"), ("b001", None), ("b002", "diverged"), ("b003", None)):
        stored(tmp_path, bag, name, end)

    place = find_bag(list(iter_bags(tmp_path)), bag)

    assert place.folder is not None
    assert (place.folder.name, place.is_over) == ("b002", True)


def test_bag_is_looked_for_by_its_settings(face_table: FaceTable, tmp_path: Path) -> None:
    first, second = wanted(face_table, n_bags=2, n_configs=1)
    stored(tmp_path, first, "b000", None)

    assert find_bag(list(iter_bags(tmp_path)), first).folder == tmp_path / "b000"
    assert find_bag(list(iter_bags(tmp_path)), second).folder is None


def test_bag_that_lost_what_it_left_is_trained_anew(face_table: FaceTable, tmp_path: Path) -> None:
    (bag,) = wanted(face_table, n_bags=1, n_configs=1)
    stored(tmp_path, bag, "b000", "completed")

    place = find_bag(list(iter_bags(tmp_path)), bag)

    assert (place.folder, place.is_over) == (None, False)


def test_only_bags_that_failed_are_forgotten(face_table: FaceTable, tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    (bag,) = wanted(face_table, n_bags=1, n_configs=1)
    for name, end in (("b000", "failed"), ("b001", "failed"), ("b002", "diverged"), ("b003", None)):
        stored(folder.ensemble_dir, bag, name, end)
    (folder.ensemble_dir / "b004").mkdir()  # of a version without bag.json

    clear_bags(folder, keep={"b001"})

    assert sorted(path.name for path in folder.ensemble_dir.iterdir()) == ["b001", "b002", "b003", "b004"]


@pytest.mark.ray
def test_bags_are_preempted_in_mlflow_when_the_job_is_interrupted(
    ray_local: None, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SearchConsole, "epoch", interrupt)

    with pytest.raises(KeyboardInterrupt):
        job.bags(n_bags=2, n_configs=1)

    assert [line["key"] for line in job.told("start")] == ["search", "search/b000"]  # one at a time
    begun = read_bag(job.folder.ensemble_dir / "b000")
    assert begun is not None
    status = "KILLED" if begun.end is None else "FINISHED"  # its worker may have been quicker
    assert [(line["key"], line["status"]) for line in job.told("end")] == [("search/b000", status)]


@pytest.mark.ray
def test_bags_keep_their_names_however_early_the_job_was_killed(
    ray_local: None, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SearchConsole, "trial_started", kill)  # before a worker has written anything
        job.bags(n_bags=2, n_configs=1)

    bags = job.bags(n_bags=2, n_configs=1)

    assert [candidate.key for candidate in bags] == ["b000", "b001"]
    assert "0 there already, 1 to go on with, 2 in training now" in job.said.getvalue()


@pytest.mark.ray
def test_bags_are_counted_without_those_that_were_there(ray_local: None, job: Job) -> None:
    job.bags(n_bags=1, n_configs=1)

    job.bags(n_bags=2, n_configs=1)

    assert "b001 started" in job.said.getvalue() and "b000 started" not in job.said.getvalue()
    assert "| 1 of 1 bags (1 completed)" in job.said.getvalue()
