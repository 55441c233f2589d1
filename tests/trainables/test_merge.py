"""Several face tables as one: classes, pictures, people, labels and sizes brought together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spaces.errors import DataError, OutputError, UsageError
from trainables.data.merge import merge_tables
from trainables.data.resampling import match_channels, resample_images
from trainables.data.table import Faces, FaceTable, Split, write_table


def faces(
    labels: Sequence[int],
    *,
    seed: int,
    px: int = 16,
    channels: int = 1,
    subjects: Sequence[str | None] | None = None,
    ids: str = "face",
    **extras: Any,
) -> Faces:
    n = len(labels)
    images = np.random.default_rng(seed).integers(0, 256, (n, px, px, channels), dtype=np.uint8)
    names = [f"{ids} {seed}-{row}" for row in range(n)]
    return Faces(images, np.array(labels, np.int8), names, subjects, **extras)


def write(
    path: Path, train: Faces, classes: Sequence[str], *, valid: Faces | None = None, test: Faces | None = None
) -> Path:
    given: Mapping[Any, Faces | None] = {"train": train, "valid": valid, "test": test}
    splits = {name: part for name, part in given.items() if part is not None}
    write_table(path, splits=splits, classes=classes, sources={})
    return path


def named(table: FaceTable, split: Split | None = None) -> list[str]:
    split = split or table.split("train")
    return [table.info.classes[label] if label >= 0 else "none" for label in split.expression]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two tables whose classes overlap: anger and happiness in both, contempt and other in one each."""
    first = write(
        tmp_path / "affect",
        faces([0, 0, 1, 1, 2, 2], seed=1),
        ["anger", "happy", "contempt"],
        valid=faces([0, 1], seed=2),
        test=faces([1, 0], seed=3),
    )
    second = write(
        tmp_path / "wild", faces([0, 0, 1, 1, 2, 2], seed=4), ["happiness", "other", "Anger"], valid=faces([2], seed=5)
    )
    return [first, second]


def test_classes_are_the_union_in_the_order_of_their_appearance(pair: list[Path], tmp_path: Path) -> None:
    merged = merge_tables(pair, tmp_path / "out")

    assert merged.info.classes == ("anger", "happiness", "contempt", "other")
    assert merged.info.rows == {"train": 12, "valid": 3, "test": 2}
    assert merged.info.class_counts["train"] == [4, 4, 2, 2]
    assert f"class 'happy' of {pair[0]} counts as 'happiness'" in merged.info.notes


def test_each_split_goes_to_its_own(pair: list[Path], tmp_path: Path) -> None:
    merged = merge_tables(pair, tmp_path / "out")

    test = merged.sealed_test()
    assert test is not None
    assert test.sample_ids == ["face 3-0", "face 3-1"]
    assert named(merged, test) == ["happiness", "anger"]
    assert named(merged, merged.split("valid")) == ["anger", "happiness", "anger"]
    assert merged.info.sources["valid"] == f"{pair[0]} (2 faces), {pair[1]} (1 faces)"


def test_pixels_are_those_of_the_face(pair: list[Path], tmp_path: Path) -> None:
    train = merge_tables(pair, tmp_path / "out").split("train")

    drawn = faces([0] * 6, seed=4).images

    assert np.array_equal(train.images[[train.sample_ids.index(f"face 4-{row}") for row in range(6)]], drawn)


def test_class_is_renamed(pair: list[Path], tmp_path: Path) -> None:
    merged = merge_tables(pair, tmp_path / "out", rename={"Contempt": "other"})

    assert merged.info.classes == ("anger", "happiness", "other")
    assert merged.info.class_counts["train"] == [4, 4, 4]


def test_faces_of_classes_not_asked_for_are_left_out_and_counted(pair: list[Path], tmp_path: Path) -> None:
    merged = merge_tables(pair, tmp_path / "out", classes=["happiness", "anger"])

    assert merged.info.classes == ("happiness", "anger")
    assert merged.info.class_counts["train"] == [4, 4]
    assert f"2 faces of other classes left out (contempt): {pair[0]}" in merged.info.notes


def test_face_of_another_class_stays_without_expression_where_something_else_is_known(tmp_path: Path) -> None:
    valence = np.array([0.5, np.nan, 0.25, np.nan, 0.125, np.nan], np.float32)
    first = write(tmp_path / "a", faces([0, 0, 1, 1, 2, 2], seed=1, valence=valence), ["anger", "fear", "contempt"])
    second = write(tmp_path / "b", faces([0, 1], seed=2), ["anger", "fear"])

    merged = merge_tables([first, second], tmp_path / "out", classes=["anger", "fear"])

    train = merged.split("train")
    assert named(merged) == ["anger", "anger", "fear", "fear", "none", "anger", "fear"]
    np.testing.assert_array_equal(train.column("valence"), [0.5, np.nan, 0.25, np.nan, 0.125, np.nan, np.nan])
    assert any("1 faces of other classes kept without an expression" in note for note in merged.info.notes)


def test_face_that_had_no_expression_stays(tmp_path: Path) -> None:
    first = write(tmp_path / "a", faces([0, 0, 1, 1, -1], seed=1), ["anger", "fear"])
    second = write(tmp_path / "b", faces([0, 1], seed=2), ["anger", "fear"])

    assert named(merge_tables([first, second], tmp_path / "out")).count("none") == 1


def test_people_of_different_tables_are_different(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / name, faces([0, 1], seed=seed, subjects=["ann", None]), ["anger", "fear"])
        for seed, name in enumerate(("a", "b"))
    ]

    assert merge_tables(paths, tmp_path / "out").split("train").subjects == ["a/ann", None, "b/ann", None]


def test_tables_of_one_name_are_told_apart_by_numbers(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / name / "table", faces([0, 1], seed=seed, subjects=["ann", "bo"]), ["anger", "fear"])
        for seed, name in enumerate(("a", "b"))
    ]

    assert merge_tables(paths, tmp_path / "out").split("train").subjects == ["1/ann", "1/bo", "2/ann", "2/bo"]


def test_ids_that_clash_get_the_name_of_the_table(tmp_path: Path) -> None:
    one, two = faces([0, 1], seed=1), faces([0, 1], seed=2)
    one = Faces(one.images, one.expression, ["x", "y"])
    two = Faces(two.images, two.expression, ["x", "z"])
    paths = [write(tmp_path / name, part, ["anger", "fear"]) for name, part in (("a", one), ("b", two))]

    assert merge_tables(paths, tmp_path / "out").split("train").sample_ids == ["a/x", "y", "b/x", "z"]


def test_picture_in_two_tables_counts_once_and_test_keeps_it(tmp_path: Path) -> None:
    held = faces([0, 1], seed=9)
    first = write(tmp_path / "a", faces([0, 0, 1, 1], seed=1), ["anger", "fear"], test=held)
    train = faces([0, 0, 1, 1, 0], seed=2)
    train.images[4] = held.images[0]
    second = write(tmp_path / "b", train, ["anger", "fear"])

    merged = merge_tables([first, second], tmp_path / "out")

    assert merged.info.rows == {"train": 8, "valid": 0, "test": 2}
    assert "train: 1 exact duplicates left out, images that stand in test too" in merged.info.notes


def test_grey_copy_of_a_grey_picture_stored_in_colour_is_a_copy(tmp_path: Path) -> None:
    grey = faces([0, 0, 1, 1], seed=1)
    colour = Faces(np.repeat(grey.images, 3, axis=3), grey.expression, grey.sample_ids)
    first = write(tmp_path / "a", grey, ["anger", "fear"])
    second = write(tmp_path / "b", colour, ["anger", "fear"])

    merged = merge_tables([first, second], tmp_path / "out")

    assert (merged.info.rows["train"], merged.info.channels) == (4, 3)


def test_copies_share_what_is_known_of_them(tmp_path: Path) -> None:
    marks = np.random.default_rng(0).random((4, 136), dtype=np.float32)
    first = write(tmp_path / "a", faces([0, 0, 1, 1], seed=1), ["anger", "fear"])
    second = write(tmp_path / "b", faces([0, 0, 1, 1], seed=1, landmarks=marks), ["anger", "fear"])

    merged = merge_tables([first, second], tmp_path / "out")

    assert merged.info.rows["train"] == 4
    np.testing.assert_array_equal(merged.split("train").column("landmarks"), marks)


def test_contradicting_tables_stop_everything_unless_told_to_skip(tmp_path: Path) -> None:
    first = write(tmp_path / "a", faces([0, 0, 0, 1, 1, 1], seed=1), ["anger", "fear"])
    second = write(tmp_path / "b", faces([0, 0, 0, 1, 1, 0], seed=1), ["anger", "fear"])

    with pytest.raises(DataError, match="labels of one image must agree, got 'fear' for face 1-5 and 'anger' for face"):
        merge_tables([first, second], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert merge_tables([first, second], tmp_path / "out", on_bad="skip").info.rows["train"] == 5


def test_sizes_and_colours_are_brought_together(tmp_path: Path) -> None:
    small, large = faces([0, 0, 1, 1], seed=1), faces([0, 1], seed=2, px=24, channels=3)
    paths = [write(tmp_path / "a", small, ["anger", "fear"]), write(tmp_path / "b", large, ["anger", "fear"])]

    merged = merge_tables(paths, tmp_path / "out")

    images = merged.split("train").images
    assert (merged.info.image_px, merged.info.channels) == (16, 3)
    assert np.array_equal(images[:4], match_channels(small.images, 3))
    assert np.array_equal(images[4:], resample_images(large.images, image_px=16))


def test_size_and_channels_are_as_asked_for(pair: list[Path], tmp_path: Path) -> None:
    info = merge_tables(pair, tmp_path / "out", image_px=20, channels=3).info

    assert (info.image_px, info.channels) == (20, 3)


def test_progress_ends_with_all_faces(pair: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    merge_tables(pair, tmp_path / "out", report=lambda done, total: told.append((done, total)))

    assert told[-1] == (17, 17)
    assert sorted(told) == told


def test_batches_do_not_change_the_table(pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = merge_tables(pair, tmp_path / "whole")
    monkeypatch.setattr("trainables.data.merge._BATCH_BYTES", 1)

    assert merge_tables(pair, tmp_path / "parts").info.content_hash == whole.info.content_hash


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"rename": {"contemt": "other"}}, UsageError, "--map must name a class of the tables, got 'contemt'; did you"),
        ({"classes": ["anger", "fear"]}, DataError, "class 'fear' must have training faces, got 0"),
        ({"classes": ["anger", "hapiness"]}, DataError, "got 0: .*; did you mean 'happiness'"),
        ({"classes": ["anger"]}, UsageError, "--classes must name between 2 and 127 classes, got 'anger'"),
        ({"image_px": 8}, UsageError, "--image-px must be within 16..1024, got 8"),
    ],
    ids=["map", "no faces", "near miss", "one class", "size"],
)
def test_settings_that_make_no_sense_are_refused(
    pair: list[Path], tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        merge_tables(pair, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_tables_must_be_several_and_different(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tables to merge must be between 2 and 127, got 1: .*affect"):
        merge_tables(pair[:1], tmp_path / "out")
    with pytest.raises(UsageError, match=r"must be different ones, got '.*affect' twice"):
        merge_tables([pair[0], pair[0]], tmp_path / "out")


def test_out_must_be_empty(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"output folder must be new or empty, got .*wild"):
        merge_tables(pair, pair[1])


def test_generated_faces_keep_all_their_labels(face_table: FaceTable, tmp_path: Path) -> None:
    other = write(tmp_path / "other", faces([0, 1], seed=1), list(face_table.info.classes[:2]))

    merged = merge_tables([face_table.path, other], tmp_path / "out")

    assert merged.info.image_px == face_table.info.image_px
    assert merged.info.labels == face_table.info.labels
    assert merged.info.rows["train"] == face_table.info.rows["train"] + 2
