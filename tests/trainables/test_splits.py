"""Cutting splits: stratified, never through a subject, every class everywhere."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spaces.errors import DataError
from trainables.data.rows import Rows
from trainables.data.splits import cut_splits, keep_subjects_apart, note_absent_classes


def rows_of(
    expression: Sequence[int] | NDArray[Any],
    subjects: Sequence[str | None] | None = None,
    split: Sequence[int] = (),
) -> Rows:
    n = len(expression)
    return Rows(
        np.array([str(row) for row in range(n)], object), np.array(expression, np.int8),
        np.array(subjects if subjects is not None else [None] * n, object),
        np.array(split if len(split) else [0] * n, np.int8), np.zeros(n, np.int8), np.arange(n), np.arange(n), {},
    )  # fmt: skip


def cut(rows: Rows, *, valid: float = 0.15, test: float = 0.1, n_classes: int = 3, seed: int = 0) -> NDArray[np.int8]:
    ratios = {"valid": valid, "test": test}
    return cut_splits(rows, ratios=ratios, n_classes=n_classes, seed=seed, notes=[])  # type: ignore[arg-type]


def test_cut_keeps_each_class_at_its_share() -> None:
    rows = rows_of([0] * 1000 + [1] * 200 + [2] * 40)

    split = cut(rows)

    shares = [[(split[rows.expression == c] == s).mean() for s in range(3)] for c in range(3)]
    assert np.allclose(shares, [0.75, 0.15, 0.1], atol=0.02)


def test_cut_is_the_same_for_the_same_seed() -> None:
    rows = rows_of(np.arange(300) % 3)

    assert (cut(rows, seed=3) == cut(rows, seed=3)).all()
    assert (cut(rows, seed=3) != cut(rows, seed=4)).any()


def test_cut_never_goes_through_a_subject() -> None:
    generator = np.random.default_rng(0)
    people = generator.integers(0, 60, 900)
    rows = rows_of(generator.integers(0, 3, 900), [f"p{p}" for p in people])

    split = cut(rows)

    assert all(len(set(split[people == p])) == 1 for p in range(60))
    sizes = np.bincount(split, minlength=3) / 900
    assert np.allclose(sizes, [0.75, 0.15, 0.1], atol=0.03)


def test_cut_gives_every_class_to_every_split_where_there_are_enough() -> None:
    rows = rows_of([0] * 50 + [1] * 3 + [2] * 20)

    split = cut(rows)

    assert all(set(split[rows.expression == c]) == {0, 1, 2} for c in range(3))


def test_class_of_one_subject_stays_in_train() -> None:
    expression = [0, 1] * 20 + [2] * 10
    subjects = [f"p{row // 4}" for row in range(40)] + ["rare"] * 10
    rows = rows_of(expression, subjects)
    notes: list[str] = []

    rows = rows.with_split(cut(rows))
    note_absent_classes(rows, ["anger", "fear", "joy"], notes=notes)

    assert set(rows.split[rows.expression == 2]) == {0}
    assert notes == ["warning: valid has no face of joy", "warning: test has no face of joy"]


def test_cut_leaves_other_splits_alone() -> None:
    rows = rows_of([0, 1] * 50, split=[1] * 20 + [0] * 80)

    split = cut_splits(rows, ratios={"test": 0.25}, n_classes=2, seed=0, notes=[])

    assert (split[:20] == 1).all()
    assert (split[20:] == 2).sum() == 20


def test_subject_in_two_splits_is_an_error_that_names_it() -> None:
    rows = rows_of([0, 0, 1], ["ann", "bob", "ann"], split=[0, 0, 1])

    with pytest.raises(DataError, match="a subject must stand in one split, got 'ann' in train and valid"):
        keep_subjects_apart(rows, on_bad="fail", notes=[])


def test_training_faces_of_a_subject_in_two_splits_are_left_out_when_asked_to() -> None:
    rows = rows_of([0, 0, 1, 1], ["ann", "bob", "ann", None], split=[0, 0, 1, 0])
    notes: list[str] = []

    keep = keep_subjects_apart(rows, on_bad="skip", notes=notes)

    assert keep.tolist() == [False, True, True, True]
    left_out = "1 faces left out (1 in train, 0 in valid)"
    assert notes == [f"warning: {left_out}, as their 1 subjects stand in a later split too"]
