"""Which bags a plan asks for."""

from collections.abc import Callable
from typing import Any

import pytest

from search.folder import TrialRecord
from search.plan import EnsemblePlan
from search.wanted_bags import wanted_bags
from spaces.config import TrialConfig
from trainables.data.table import FaceTable


def trial(number: int, **settings: Any) -> TrialRecord:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return TrialRecord(f"t{number:04d}", number, values={}, config=TrialConfig().with_settings(dotted).to_flat())


RANKED = [trial(3, optimiser__lr=1e-3), trial(1, optimiser__lr=2e-3), trial(2, optimiser__lr=3e-3)]


def names(table: FaceTable, **plan: Any) -> list[str]:
    return [f"{bag.trial_id}/{bag.number}" for bag in wanted(table, **plan)]


def wanted(table: FaceTable, ranked: list[TrialRecord] | None = None, **plan: Any) -> list[Any]:
    return wanted_bags(RANKED if ranked is None else ranked, table.split("train"), plan=EnsemblePlan(**plan))


def test_bags_are_so_many_of_each_config_with_first_ones_first(face_table: FaceTable) -> None:
    bags = names(face_table, n_bags=2, n_configs=2)

    assert bags == ["t0003/0", "t0001/0", "t0003/1", "t0001/1"]


def test_bags_are_four_in_all_when_no_number_is_named(face_table: FaceTable) -> None:
    assert names(face_table, n_configs=3) == ["t0003/0", "t0001/0", "t0002/0", "t0003/1"]
    assert names(face_table, n_configs=1) == ["t0003/0", "t0003/1", "t0003/2", "t0003/3"]


def test_no_bags_are_wanted_when_none_are_asked_for_or_no_trial_is_usable(face_table: FaceTable) -> None:
    assert wanted(face_table, n_bags=0) == []
    assert wanted(face_table, [], n_bags=2) == []


def test_bag_is_the_same_whatever_else_is_wanted(face_table: FaceTable) -> None:
    few = wanted(face_table, n_bags=1, n_configs=1)
    many = wanted(face_table, n_bags=5, n_configs=3)

    assert few[0] == many[0]
    assert few[0] != wanted(face_table, n_bags=1, n_configs=1, seed=1)[0]


def test_bags_of_a_config_have_different_seeds(face_table: FaceTable) -> None:
    seeds = [bag.settings["train.seed"] for bag in wanted(face_table, n_bags=4, n_configs=1)]

    assert len(set(seeds)) == 4


def test_seed_of_a_plan_may_be_large(face_table: FaceTable) -> None:
    (bag,) = wanted(face_table, n_bags=1, n_configs=1, seed=10**12)

    assert 0 <= bag.settings["train.seed"] < 2**31


def test_same_config_with_another_seed_is_repeated_once(face_table: FaceTable) -> None:
    ranked = [trial(1, train__seed=5), trial(2, train__seed=6), trial(3, optimiser__lr=1e-4)]

    bags = wanted(face_table, ranked, n_bags=1, n_configs=2)

    assert [bag.trial_id for bag in bags] == ["t0001", "t0003"]


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 0.8), (0.2, 0.2)])
def test_bag_of_a_config_on_all_faces_sees_a_part(face_table: FaceTable, ratio: float, expected: float) -> None:
    (bag,) = wanted(face_table, [trial(1, data__subsample_ratio=ratio)], n_bags=1)

    assert bag.settings["data.subsample_ratio"] == expected


def test_bag_keeps_as_many_late_epochs_as_the_plan_says(face_table: FaceTable) -> None:
    (bag,) = wanted(face_table, [trial(1, train__snapshots=3)], n_bags=1, n_snapshots=1)

    assert bag.settings["train.snapshots"] == 1


@pytest.mark.parametrize(("n_people", "own", "expected"), [
    (20, "faces", "subjects"), (19, "faces", "faces"), (19, "subjects", "subjects"),
])  # fmt: skip
def test_bag_draws_whole_subjects_where_enough_are_known(
    make_people: Callable[[int], FaceTable], n_people: int, own: str, expected: str
) -> None:
    (bag,) = wanted(make_people(n_people), [trial(1, data__subsample_by=own)], n_bags=1)

    assert bag.settings["data.subsample_by"] == expected


@pytest.fixture
def make_people(tmp_path: Any) -> Callable[[int], FaceTable]:
    """A table whose training faces are of so many people, and as many of nobody known."""
    import numpy as np

    from trainables.data.table import Faces, write_table

    def make(n_people: int) -> FaceTable:
        subjects = [f"p{i}" for i in range(n_people)] + [None] * n_people
        labels = np.arange(len(subjects), dtype=np.int8) % 2
        images = np.random.default_rng(0).integers(0, 255, (len(subjects), 8, 8, 1), dtype=np.uint8)
        splits = {
            name: Faces(images, labels, [f"{name}{i}" for i in range(len(subjects))], people)
            for name, people in (("train", subjects), ("valid", [f"v{i}" for i in range(len(subjects))]))
        }
        return write_table(tmp_path / "table", splits=splits, classes=("no", "yes"), sources={"train": "drawn"})

    return make
