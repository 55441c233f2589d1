"""Subsamples by class, items that repeat rare classes, and epochs that draw from them."""

import numpy as np
import pytest

from spaces.errors import DataError
from trainables.data.sampling import (
    Items,
    Sampler,
    epoch_order,
    stratified_subsample,
    subject_subsample,
    training_items,
)

LABELS = np.repeat(np.array([0, 1, 2, -1], np.int8), [100, 40, 3, 20])
ALL = np.arange(len(LABELS))


def draw_order(
    items: Items, *, sampler: Sampler = "weighted", power: float = 1.0, seed: int = 0, epoch: int = 1
) -> np.ndarray:
    return epoch_order(items, LABELS, sampler=sampler, power=power, seed=seed, epoch=epoch)


def drawn_shares(rows: np.ndarray, *, power: float) -> list[float]:
    """Share of the classes 0, 1, 2 and of the unlabelled in 200 weighted epochs."""
    items = training_items(LABELS, rows, sampler="weighted")
    drawn = [LABELS[items.rows[draw_order(items, power=power, epoch=epoch)]] for epoch in range(200)]
    counts = np.bincount(np.concatenate(drawn) % 4, minlength=4)
    return [float(share) for share in counts / counts.sum()]


def test_subsample_keeps_the_share_of_each_class_and_a_face_of_the_rarest() -> None:
    rows = stratified_subsample(LABELS, ratio=0.1, seed=0)

    assert np.bincount(LABELS[rows]).tolist() == [10, 4, 1]


def test_subsample_is_sorted_without_repeats_and_without_unlabelled_faces() -> None:
    rows = stratified_subsample(LABELS, ratio=0.5, seed=3)

    assert (np.diff(rows) > 0).all()
    assert (LABELS[rows] >= 0).all()


def test_subsample_is_every_labelled_face_when_the_ratio_is_one() -> None:
    np.testing.assert_array_equal(stratified_subsample(LABELS, ratio=1.0, seed=5), np.arange(143))


def test_subsample_depends_on_the_seed_alone() -> None:
    first, again, other = (stratified_subsample(LABELS, ratio=0.2, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_subsample_is_refused_when_no_face_is_labelled() -> None:
    with pytest.raises(DataError, match="train split must have labelled faces, got 0 of 4"):
        stratified_subsample(np.full(4, -1, np.int8), ratio=1.0, seed=0)


def draw_people(n_people: int, *, seed: int = 0, n_classes: int = 6) -> tuple[np.ndarray, list[str | None]]:
    """Classes and subjects of faces, 1 to 60 a person; each person shows some classes more than others, some rare."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 60, n_people)
    usual = np.array([40.0, 25, 15, 10, 8, 2])[:n_classes]
    classes = [
        generator.choice(n_classes, size, p=generator.dirichlet(3 * usual / usual.sum() + 0.05)) for size in sizes
    ]
    return np.concatenate(classes), [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_subsample_by_subjects_takes_whole_people_and_keeps_each_class_near_its_share(ratio: float) -> None:
    classes, subjects = draw_people(100)

    chosen = subject_subsample(classes, subjects, ratio=ratio, seed=1)

    inside = {subjects[place] for place in chosen}
    outside = {subject for place, subject in enumerate(subjects) if place not in set(chosen)}
    assert inside and outside and inside & outside == set()
    shares = np.bincount(classes[chosen], minlength=6) / np.bincount(classes)
    np.testing.assert_allclose(shares, ratio, rtol=0.15)


def test_subsample_by_subjects_is_everybody_when_the_ratio_is_one() -> None:
    classes, subjects = draw_people(30)

    chosen = subject_subsample(classes, [*subjects[:-5], *[None] * 5], ratio=1.0, seed=0)

    np.testing.assert_array_equal(chosen, np.arange(len(classes)))


def test_subsample_by_subjects_depends_on_the_seed_alone() -> None:
    classes, subjects = draw_people(40)

    first, again, other = (subject_subsample(classes, subjects, ratio=0.5, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert {subjects[place] for place in first} != {subjects[place] for place in other}


def test_subsample_by_subjects_leaves_no_class_empty_that_one_person_has() -> None:
    classes = np.array([0] * 300 + [1] * 60)
    subjects = [f"p{i // 10}" for i in range(300)] + ["the one"] * 60

    for seed in range(5):
        chosen = subject_subsample(classes, subjects, ratio=0.1, seed=seed)

        assert np.bincount(classes[chosen]).tolist() == [30, 60]


def test_faces_without_a_person_make_up_what_people_leave_missing() -> None:
    classes = np.array([0] * 90 + [0] * 10 + [1] * 20)
    subjects = ["large"] * 90 + [None] * 30

    chosen = subject_subsample(classes, subjects, ratio=0.6, seed=0)

    # the large one takes class 0 over its share, so that no other face of it is drawn
    assert [int((classes[chosen] == kind).sum()) for kind in (0, 1)] == [90, 12]
    assert {subjects[place] for place in chosen if classes[place] == 0} == {"large"}


def test_subsample_by_subjects_draws_by_class_when_no_person_is_known() -> None:
    chosen = subject_subsample(LABELS, [None] * len(LABELS), ratio=0.1, seed=0)

    assert np.bincount(LABELS[chosen] + 1).tolist() == [2, 10, 4, 1]


@pytest.mark.parametrize("sampler", ["shuffle", "weighted"])
def test_items_are_the_faces_as_they_are_without_upsampling(sampler: Sampler) -> None:
    rows = np.array([2, 7, 101, 150])

    items = training_items(LABELS, rows, sampler=sampler)

    np.testing.assert_array_equal(items.rows, rows)
    assert items.copies.tolist() == [0, 0, 0, 0]
    assert len(items) == 4


def test_upsampling_brings_every_class_to_the_largest_ones_number_and_the_unlabelled_once() -> None:
    items = training_items(LABELS, ALL, sampler="upsample")

    assert np.bincount(LABELS[items.rows] % 4).tolist() == [100, 100, 100, 20]
    assert items.rows.dtype == items.copies.dtype == np.int64


def test_upsampling_numbers_the_copies_of_each_face_from_the_face_itself() -> None:
    items = training_items(LABELS, ALL, sampler="upsample")

    for row in ALL:
        copies = items.copies[items.rows == row]
        assert copies.tolist() == list(range(len(copies)))


def test_upsampling_repeats_the_faces_of_a_class_equally_often() -> None:
    items = training_items(LABELS, ALL, sampler="upsample")

    n_each = np.bincount(items.rows)
    assert set(n_each[LABELS == 0]) == {1}
    assert set(n_each[LABELS == 1]) == {2, 3}
    assert set(n_each[LABELS == 2]) == {33, 34}
    twice_more = np.flatnonzero((LABELS == 1) & (n_each == 3))
    assert np.diff(twice_more).max() == 2  # taken from all along the class, not from its first people


def test_upsampling_changes_nothing_when_no_face_is_labelled() -> None:
    rows = np.arange(150, 160)

    np.testing.assert_array_equal(training_items(LABELS, rows, sampler="upsample").rows, rows)


@pytest.mark.parametrize("sampler", ["shuffle", "upsample"])
def test_epoch_takes_every_item_once(sampler: Sampler) -> None:
    items = training_items(LABELS, ALL, sampler=sampler)

    order = draw_order(items, sampler=sampler)

    assert sorted(order.tolist()) == list(range(len(items)))
    assert order.dtype == np.int64


def test_shuffled_epoch_is_the_one_that_rows_were_always_shuffled_to() -> None:
    rows = stratified_subsample(LABELS, ratio=0.5, seed=3)
    items = training_items(LABELS, rows, sampler="shuffle")

    order = draw_order(items, sampler="shuffle", seed=4, epoch=2)

    np.testing.assert_array_equal(items.rows[order], np.random.default_rng([4, 2, 0x0DE2]).permutation(rows))


def test_weighted_epoch_is_as_long_as_the_items_and_repeats_some() -> None:
    items = training_items(LABELS, ALL, sampler="weighted")

    order = draw_order(items)

    assert len(order) == len(items)
    assert len(np.unique(order)) < len(items)


def test_weighted_epochs_balance_the_classes_when_the_power_is_one() -> None:
    assert drawn_shares(ALL[:143], power=1.0) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=0.01)


def test_weighted_epochs_leave_the_classes_as_they_are_when_the_power_is_zero() -> None:
    assert drawn_shares(ALL, power=0.0) == pytest.approx([100 / 163, 40 / 163, 3 / 163, 20 / 163], abs=0.01)


def test_weighted_epochs_go_half_the_way_when_the_power_is_a_half() -> None:
    expected = np.sqrt([100, 40, 3]) / np.sqrt([100, 40, 3]).sum()

    assert drawn_shares(ALL[:143], power=0.5)[:3] == pytest.approx(expected.tolist(), abs=0.01)


def test_weighted_epochs_draw_the_unlabelled_like_the_mean_face() -> None:
    n_unlabelled, n = 20, 163

    assert drawn_shares(ALL, power=1.0)[3] == pytest.approx(n_unlabelled / n, abs=0.01)


@pytest.mark.parametrize("sampler", ["shuffle", "weighted", "upsample"])
def test_epoch_depends_on_seed_and_epoch_alone(sampler: Sampler) -> None:
    items = training_items(LABELS, ALL, sampler=sampler)

    first, again, epoch, seed = (
        draw_order(items, sampler=sampler, seed=s, epoch=e) for s, e in ((0, 1), (0, 1), (0, 2), (1, 1))
    )

    np.testing.assert_array_equal(first, again)
    assert (first != epoch).any()
    assert (first != seed).any()
