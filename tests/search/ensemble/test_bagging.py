"""Bags: their deadlines, their histories, and what becomes of one that fails."""

from pathlib import Path

import pytest

from search.cluster import Resources
from search.ensemble.bagging import HISTORY_FILE, affordable_bags, deadlines, read_history, train_bags
from spaces.config import TrialConfig
from trainables.data.table import FaceTable
from trainables.run import TrialOrder


def order_of(bag_id: str, folder: Path, table: FaceTable, **settings: object) -> TrialOrder:
    small = {"model.backbone": "test_efficientnet", "model.weights": "none", "model.image_px": 32, "train.epochs": 1}
    config = TrialConfig().with_settings({**small, "data.subsample_ratio": 0.5, **settings}).to_flat()
    return TrialOrder(bag_id, dict(config), str(table.path), str(folder / bag_id))


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
    orders = [
        order_of("b000", tmp_path, face_table, **{"model.weights": str(tmp_path / "gone.safetensors")}),
        order_of("b001", tmp_path, face_table),
    ]
    heard: list[str] = []

    outcomes = train_bags(orders, Resources(1, 0, 1), on_epoch=lambda bag_id, report: heard.append(bag_id))

    assert [outcome.end for outcome in outcomes] == ["failed", "completed"]
    assert "gone.safetensors" in outcomes[0].error
    assert outcomes[0].history == []
    assert outcomes[1].history[-1]["best/macro_f1"] >= 0
    assert heard == ["b001"]


@pytest.mark.ray
def test_bag_that_can_write_nothing_is_a_failure_with_a_sentence(
    ray_local: None, face_table: FaceTable, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    (outcome,) = train_bags(
        [order_of("b000", tmp_path / "file", face_table)], Resources(1, 0, 1), on_epoch=lambda *_: None
    )

    assert outcome.end == "failed"
    assert outcome.error and "\n" not in outcome.error


def test_bags_are_as_many_as_find_time_to_be_whole() -> None:
    assert affordable_bags(slots=2, time_budget_s=1200.0, typical_s=1170.0) == 2
    assert affordable_bags(slots=2, time_budget_s=60.0, typical_s=15.0) == 4
    assert affordable_bags(slots=1, time_budget_s=10.0, typical_s=1000.0) == 1
