"""Bags: their deadlines, their histories, and what becomes of one that fails or loses its worker."""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from search.bag_record import BagRecord, read_bag
from search.ensemble.bagging import (
    HISTORY_FILE,
    BagJob,
    BagOutcome,
    affordable_bags,
    deadlines,
    read_history,
    train_bags,
)
from search.lost_workers import Loss, LostWorkers
from search.resources import Resources
from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.out_of_bag import OUT_OF_BAG_FILE
from trainables.pulse import PULSE_FILE, SILENT_S
from trainables.run import CHECKPOINT_FILE, TrialOrder

ONE_AT_A_TIME = Resources(1, 0, 1)


def job_of(
    bag_id: str, folder: Path, table: FaceTable, *, ends_in_s: float | None = None, **settings: object
) -> BagJob:
    """A short bag; or one of many epochs, kept one by one, that ends in so many seconds."""
    small = {"model.backbone": "test_efficientnet", "model.weights": "none", "model.image_px": 32, "train.epochs": 1}
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    config = dict(TrialConfig().with_settings({**small, "data.subsample_ratio": 0.5, **dotted}).to_flat())
    order = TrialOrder(bag_id, config, str(table.path), str(folder / bag_id), asks_unseen=True)
    if ends_in_s is not None:
        order = replace(order, checkpoint_share=1.0, deadline_s=time.time() + ends_in_s)
    return BagJob(order, BagRecord("t0001", 0, config))


def unheard(*_: Any) -> None:
    """Whoever is told and does not listen."""


def test_waves_of_bags_have_the_same_share_of_the_time() -> None:
    assert deadlines(5, slots=2, time_budget_s=60.0, now_s=100.0) == [120.0, 120.0, 140.0, 140.0, 160.0]


def test_bags_have_no_deadline_when_there_is_no_budget() -> None:
    assert deadlines(2, slots=2, time_budget_s=None) == [None, None]


def test_history_is_empty_before_the_first_epoch(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []


def test_history_leaves_out_a_line_that_is_still_being_written(tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_text('{"epoch": 1}\n{"epo')

    assert read_history(tmp_path) == [{"epoch": 1}]


def test_history_leaves_out_a_line_that_a_lost_worker_left_torn(tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_text('{"epoch": 1}\n{"epo\n{"epoch": 2}\n')

    assert read_history(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.ray
def test_bag_that_fails_costs_only_itself(ray_local: None, face_table: FaceTable, tmp_path: Path) -> None:
    jobs = [
        job_of("b000", tmp_path, face_table, model__weights=str(tmp_path / "gone.safetensors")),
        job_of("b001", tmp_path, face_table),
    ]
    heard: list[str] = []
    ended: list[BagOutcome] = []

    outcomes = train_bags(
        jobs,
        ONE_AT_A_TIME,
        on_start=lambda job: heard.append(f"{job.bag_id} begins"),
        on_epoch=lambda bag_id, report: heard.append(bag_id),
        on_end=ended.append,
    )

    assert [outcome.end for outcome in outcomes] == ["failed", "completed"]
    assert "gone.safetensors" in outcomes[0].error
    assert outcomes[0].history == []
    assert outcomes[1].history[-1]["best/macro_f1"] >= 0
    assert heard == ["b000 begins", "b001 begins", "b001"]
    assert ended == outcomes


@pytest.mark.ray
def test_bags_folder_says_how_it_ended(ray_local: None, face_table: FaceTable, tmp_path: Path) -> None:
    jobs = [
        job_of("b000", tmp_path, face_table, model__weights=str(tmp_path / "gone.safetensors")),
        job_of("b001", tmp_path, face_table),
    ]

    train_bags(jobs, ONE_AT_A_TIME, on_start=unheard, on_epoch=unheard, on_end=unheard)

    failed, whole = (read_bag(job.folder) for job in jobs)
    assert failed is not None and whole is not None
    assert (failed.end, whole.end, whole.settings) == ("failed", "completed", jobs[1].record.settings)
    assert "gone.safetensors" in failed.error
    assert (jobs[1].folder / OUT_OF_BAG_FILE).exists()
    assert not (jobs[0].folder / OUT_OF_BAG_FILE).exists()


@pytest.mark.ray
def test_bag_that_can_write_nothing_is_a_failure_with_a_sentence(
    ray_local: None, face_table: FaceTable, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    (outcome,) = train_bags(
        [job_of("b000", tmp_path / "file", face_table)],
        ONE_AT_A_TIME,
        on_start=unheard,
        on_epoch=unheard,
        on_end=unheard,
    )

    assert outcome.end == "failed"
    assert outcome.error and "\n" not in outcome.error


def train_one(
    job: BagJob, *, on_epoch: Callable[[str, Mapping[str, Any]], None], silent_s: float = SILENT_S
) -> tuple[BagOutcome, list[Loss]]:
    """A bag to its end; what became of it, and the workers that it lost on the way."""
    losses: list[Loss] = []
    (outcome,) = train_bags(
        [job],
        ONE_AT_A_TIME,
        on_start=unheard,
        on_epoch=on_epoch,
        on_end=unheard,
        on_loss=lambda _, loss: losses.append(loss),
        silent_s=silent_s,
    )
    return outcome, losses


def bag_workers() -> list[int]:
    """Processes of this test's own Ray in which bags are trained."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child.pid] if "ray::_train_bag" in " ".join(child.cmdline()) else []
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("most", "ends_in_s", "end"), [(1, 6.0, "completed"), (0, 600.0, "failed")], ids=["may", "may not"]
)
def test_bag_whose_worker_is_lost_goes_on_in_another_one_where_it_may(
    ray_local: None,
    face_table: FaceTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    ends_in_s: float,
    end: str,
) -> None:
    monkeypatch.setattr("search.ensemble.bagging.LostWorkers", partial(LostWorkers, most=most))
    job = job_of("b000", tmp_path, face_table, ends_in_s=ends_in_s, train__epochs=1000)
    epochs: list[int] = []
    killed: set[int] = set()

    def kill_worker(bag_id: str, report: Mapping[str, Any]) -> None:
        epochs.append(report["epoch"])
        for worker in bag_workers() if not killed else ():
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)

    outcome, losses = train_one(job, on_epoch=kill_worker)

    known = read_bag(job.folder)
    assert known is not None and known.end == outcome.end == end
    assert len(killed) == 1
    assert [(loss.cause, loss.n) for loss in losses] == [("lost", 1)] * most
    assert epochs.count(1) == 1  # it went on from its checkpoint
    assert (outcome.error == "") == (end == "completed")
    assert (job.folder / CHECKPOINT_FILE).exists() == (end == "failed")


@pytest.mark.ray
@pytest.mark.slow
def test_bag_that_is_interrupted_has_no_end_and_goes_on_the_next_time(
    ray_local: None, face_table: FaceTable, tmp_path: Path
) -> None:
    job = job_of("b000", tmp_path, face_table, ends_in_s=600.0, train__epochs=1000)

    def interrupt(bag_id: str, report: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_bags([job], ONE_AT_A_TIME, on_start=unheard, on_epoch=interrupt, on_end=unheard)
    wait_until_no_bag_is_trained()
    begun = read_bag(job.folder)
    n_epochs = read_history(job.folder)[-1]["epoch"]
    epochs: list[int] = []

    again = job_of("b000", tmp_path, face_table, ends_in_s=3.0, train__epochs=1000)
    outcome, _ = train_one(again, on_epoch=lambda _, report: epochs.append(report["epoch"]))

    assert begun is not None and begun.end is None
    assert outcome.end == "completed"
    assert n_epochs <= epochs[0] <= n_epochs + 1  # the last epoch may have come after the last checkpoint


@pytest.mark.ray
@pytest.mark.faults
def test_bag_that_hangs_goes_on_in_another_worker(ray_local: None, face_table: FaceTable, tmp_path: Path) -> None:
    job = job_of("b000", tmp_path, face_table, ends_in_s=25.0, train__epochs=1000)
    stopped: list[int] = []

    def stop_worker(bag_id: str, report: Mapping[str, Any]) -> None:
        if not stopped:
            stopped.append(json.loads((job.folder / PULSE_FILE).read_text())["pid"])
            os.kill(stopped[0], signal.SIGSTOP)

    outcome, losses = train_one(job, on_epoch=stop_worker, silent_s=8.0)
    with suppress(ProcessLookupError):
        os.kill(stopped[0], signal.SIGKILL)

    assert [loss.words for loss in losses] == ["it gave no sign of life for 8 s"]
    assert outcome.end == "completed"


def wait_until_no_bag_is_trained() -> None:
    until_s = time.time() + 20.0
    while bag_workers() and time.time() < until_s:
        time.sleep(0.1)


def test_bags_are_as_many_as_find_time_to_be_whole() -> None:
    assert affordable_bags(slots=2, time_budget_s=1200.0, typical_s=1170.0) == 2
    assert affordable_bags(slots=2, time_budget_s=60.0, typical_s=15.0) == 4
    assert affordable_bags(slots=1, time_budget_s=10.0, typical_s=1000.0) == 1
