"""What a bag's folder says of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.bag_record import BAG_FILE, BagRecord, end_bag, iter_bags, read_bag, write_bag
from spaces.config import TrialConfig


def record(number: int = 0, **settings: Any) -> BagRecord:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return BagRecord("t0001", number, dict(TrialConfig().with_settings(dotted).to_flat()))


def test_bag_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = record(2, loss__class_weights=(1.0, 2.0))

    write_bag(tmp_path / "b000", written)

    assert read_bag(tmp_path / "b000") == written


def test_bag_of_an_earlier_version_has_the_defaults_of_settings_that_came_later(tmp_path: Path) -> None:
    write_bag(tmp_path, record())
    document = json.loads((tmp_path / BAG_FILE).read_text())
    for name in ("data.subsample_by", "train.snapshots"):
        del document["settings"][name]
    (tmp_path / BAG_FILE).write_text(json.dumps(document))

    assert read_bag(tmp_path) == record()


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"trial_id": "t0001", "number": 0, "settings": {"model.backbonne": "x"}}'],
    ids=["empty", "no bag", "settings there are no more"],
)
def test_folder_without_a_bag_that_can_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / BAG_FILE).write_text(content)

    assert read_bag(tmp_path) is None
    assert read_bag(tmp_path / "gone") is None


def test_bag_that_was_preempted_has_no_end(tmp_path: Path) -> None:
    for name, end in (("b000", "preempted"), ("b001", "failed")):
        write_bag(tmp_path / name, record())
        end_bag(tmp_path / name, record(), end, error="why")  # type: ignore[arg-type]

    found = [(folder.name, bag.end, bag.error) for folder, bag in iter_bags(tmp_path)]

    assert found == [("b000", None, ""), ("b001", "failed", "why")]


def test_bag_is_known_by_its_settings() -> None:
    assert record(0).serves(BagRecord("t0007", 3, record().settings))
    assert not record(0, train__seed=7).serves(record(0))


def test_bag_that_keeps_more_late_epochs_serves_as_well() -> None:
    assert record(train__snapshots=3).serves(record(train__snapshots=2))
    assert not record(train__snapshots=1).serves(record(train__snapshots=2))
