"""Images that stand in the sources more than once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from spaces.errors import DataError
from trainables.data.duplicates import drop_contradictions, drop_duplicates, group_equal, make_ids_unique
from trainables.data.rows import Rows
from trainables.data.source import Source

CLASSES = ["anger", "fear"]


def rows_of(split: Sequence[int], expression: Sequence[int]) -> Rows:
    n = len(split)
    return Rows(
        np.array([f"face {row}" for row in range(n)], object), np.array(expression, np.int8), np.full(n, None, object),
        np.array(split, np.int8), np.array(split, np.int8), np.arange(n), np.arange(n), {},
    )  # fmt: skip


def source(name: str) -> Source:
    return Source(Path(name), [], [], [], iter)


def test_equal_digests_are_one_group() -> None:
    digests = np.array([[1, 2], [3, 4], [1, 2]], np.uint8)

    assert group_equal(digests).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("split", "expression", "kept"),
    [
        ([0, 0], [0, 0], [True, False]),
        ([0, 1], [0, 0], [False, True]),
        ([1, 2, 0], [0, 0, 0], [False, True, False]),
        ([0, 0], [-1, 0], [False, True]),
    ],
    ids=["first stays", "valid before train", "test before all", "labelled before not"],
)
def test_one_copy_stays(split: list[int], expression: list[int], kept: list[bool]) -> None:
    rows = rows_of([*split, 0], [*expression, 0])
    groups = np.array([0] * len(split) + [1])

    assert drop_duplicates(rows, groups, notes=[]).tolist() == [*kept, True]


def test_copies_are_counted_in_the_notes() -> None:
    notes: list[str] = []

    drop_duplicates(rows_of([0, 0, 0, 1], [0, 0, 1, 1]), np.array([0, 0, 1, 1]), notes=notes)

    assert notes == [
        "train: 1 exact duplicates left out, images that stand more than once",
        "train: 1 exact duplicates left out, images that stand in valid too",
    ]


def test_contradiction_in_few_rows_is_an_error_that_names_the_pair() -> None:
    rows = rows_of([0, 0, 0], [0, 1, 1])

    message = "labels of one image must agree, got 'anger' for face 0 and 'fear' for face 2: a.csv, 2 of 3 rows"

    with pytest.raises(DataError, match=message):
        drop_contradictions(
            rows, np.array([0, 1, 0]), classes=CLASSES, sources=[source("a.csv")], on_bad="fail", notes=[]
        )


def test_contradiction_is_left_out_when_asked_to() -> None:
    notes: list[str] = []

    keep = drop_contradictions(
        rows_of([0, 0, 0], [0, 1, 1]), np.array([0, 1, 0]), classes=CLASSES, sources=[source("a.csv")], on_bad="skip",
        notes=notes,
    )  # fmt: skip

    assert keep.tolist() == [False, True, False]
    assert notes == ["warning: 2 faces left out, as the same image has two labels (2 in train)"]


def test_rare_contradictions_in_many_rows_are_label_noise() -> None:
    rows = rows_of([0] * 1000, [0, 1] * 500)
    groups = np.arange(1000)
    groups[1] = 0
    notes: list[str] = []

    keep = drop_contradictions(rows, groups, classes=CLASSES, sources=[source("a.csv")], on_bad="fail", notes=notes)

    assert np.flatnonzero(~keep).tolist() == [0, 1]
    assert notes[0].startswith("warning: 2 faces left out")


def test_many_contradictions_in_many_rows_are_an_error() -> None:
    rows = rows_of([0] * 1000, [0, 1] * 500)

    with pytest.raises(DataError, match="1,000 of 1,000 rows; --on-bad skip leaves them out"):
        drop_contradictions(
            rows, np.arange(1000) // 2, classes=CLASSES, sources=[source("a.csv")], on_bad="fail", notes=[]
        )


def test_not_labelled_copy_contradicts_nothing() -> None:
    keep = drop_contradictions(
        rows_of([0, 0], [0, -1]), np.array([0, 0]), classes=CLASSES, sources=[source("a")], on_bad="fail", notes=[]
    )

    assert keep.all()


def test_id_of_two_images_gets_a_number() -> None:
    notes: list[str] = []

    ids = make_ids_unique(np.array(["a", "b", "a", "a#2", "a"], object), notes=notes)

    assert ids.tolist() == ["a", "b", "a#3", "a#2", "a#4"]
    assert notes == ["2 faces had the id of another image; #2, #3, ... was put behind it"]
