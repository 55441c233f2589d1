"""Ingest: sources in, a face table out; the whole table, or a sentence and nothing."""

import csv
import errno
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spaces.errors import DataError, OutputError, UsageError
from trainables.data.columns import ColumnNames
from trainables.data.ingest import IngestRequest, ingest

CLASSES = ("anger", "fear", "joy")


def draw(seed: int, *, px: int = 20, colour: bool = False) -> Image.Image:
    shape = (px, px, 3) if colour else (px, px)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path, *, per_class: int = 12, seed: int = 0, classes: Sequence[str] = CLASSES) -> Path:
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            draw(1000 * seed + 100 * index + number).save(folder / name / f"{number:02}.png")
    return folder


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A manifest; the image of a row is drawn from its `seed`."""
    for row in rows:
        draw(row["seed"]).save(path.parent / f"{row['path']}")
    names = [name for name in rows[0] if name != "seed"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def manifest(tmp_path: Path, n: int = 30, name: str = "train", **columns: Callable[[int], Any]) -> Path:
    """A manifest of n different faces, the classes in turn, with a column for each function of the row."""
    shift = sum(name.encode())
    rows = [
        {"path": f"{name}{row}.png", "label": CLASSES[row % 3], "seed": 1000 * shift + row}
        | {column: value(row) for column, value in columns.items()}
        for row in range(n)
    ]
    return write_csv(tmp_path / f"{name}.csv", rows)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "train")


@pytest.fixture
def request_(tmp_path: Path, train: Path) -> IngestRequest:
    return IngestRequest(train, tmp_path / "out" / "table")


def assert_nothing_left(request: IngestRequest) -> None:
    assert not request.out.parent.exists() or list(request.out.parent.iterdir()) == []


def test_folder_becomes_a_table_cut_in_three(request_: IngestRequest) -> None:
    info = ingest(request_).info

    assert info.classes == CLASSES
    assert (info.image_px, info.channels) == (20, 1)
    assert sum(info.rows.values()) == 36
    assert min(min(counts) for counts in info.class_counts.values()) >= 1
    assert info.notes == ["valid and test cut from train, stratified by class with seed 0"]


def test_table_holds_the_pixels_of_the_sources(request_: IngestRequest, train: Path) -> None:
    split = ingest(request_).split("train")

    for sample_id, image, label in zip(split.sample_ids, split.images, split.expression, strict=True):
        assert (np.asarray(Image.open(train / sample_id)) == image[..., 0]).all()
        assert sample_id.startswith(CLASSES[label])


def test_same_seed_gives_the_same_table(request_: IngestRequest, tmp_path: Path) -> None:
    first = ingest(request_).info.content_hash
    again = ingest(replace(request_, out=tmp_path / "again")).info.content_hash
    other = ingest(replace(request_, out=tmp_path / "other", seed=1)).info.content_hash

    assert first == again != other


@pytest.mark.slow
def test_processes_give_the_same_table(request_: IngestRequest, tmp_path: Path) -> None:
    alone = ingest(request_).info

    assert ingest(replace(request_, out=tmp_path / "again", workers=2)).info == alone


def test_splits_of_their_own_are_taken_as_they_are(request_: IngestRequest, tmp_path: Path) -> None:
    valid = write_folder(tmp_path / "valid", per_class=3, seed=1)
    test = write_folder(tmp_path / "test", per_class=2, seed=2)

    info = ingest(replace(request_, valid=valid, test=test)).info

    assert info.rows == {"train": 36, "valid": 9, "test": 6}
    assert info.sources == {"train": str(request_.train), "valid": str(valid), "test": str(test)}


def test_split_column_says_which_face_stands_where(tmp_path: Path) -> None:
    source = manifest(tmp_path, split=lambda row: ("train", "train", "train", "dev", "test")[row // 6])

    info = ingest(IngestRequest(source, tmp_path / "table")).info

    assert info.rows == {"train": 18, "valid": 6, "test": 6}


def test_test_ratio_of_zero_makes_no_test_split(request_: IngestRequest) -> None:
    table = ingest(replace(request_, test_ratio=0))

    assert table.sealed_test() is None
    assert table.info.rows["valid"] == 5 or table.info.rows["valid"] == 6


def test_classes_asked_for_are_kept_and_others_counted(request_: IngestRequest) -> None:
    info = ingest(replace(request_, classes=("joy", "anger"))).info

    assert info.classes == ("joy", "anger")
    assert sum(info.rows.values()) == 24
    assert "train: 12 faces of other classes left out (fear 12)" in info.notes


def test_class_may_be_called_by_another_word(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", classes=("angry", "fearful"))

    info = ingest(IngestRequest(train, tmp_path / "table", classes=("anger", "fear"))).info

    assert info.classes == ("anger", "fear")


def test_labels_that_are_numbers_are_named_by_the_classes(tmp_path: Path) -> None:
    columns = {"image": [encode(draw(row)) for row in range(20)], "label": [row % 2 for row in range(20)]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")

    named = ingest(IngestRequest(tmp_path / "a.parquet", tmp_path / "named", classes=("fear", "joy"))).info
    plain = ingest(IngestRequest(tmp_path / "a.parquet", tmp_path / "plain")).info

    assert named.classes == ("fear", "joy")
    assert plain.classes == ("0", "1")
    assert plain.notes[0].startswith("labels are numbers, which now name the classes")


def test_exact_duplicates_count_once_and_never_stand_in_two_splits(request_: IngestRequest, tmp_path: Path) -> None:
    valid = write_folder(tmp_path / "valid", per_class=3, seed=1)
    for source, copy in [("train/joy/00.png", "train/joy/copy.png"), ("valid/joy/00.png", "train/joy/leak.png")]:
        (tmp_path / copy).write_bytes((tmp_path / source).read_bytes())

    table = ingest(replace(request_, valid=valid, test_ratio=0))

    assert table.info.rows == {"train": 36, "valid": 9, "test": 0}
    assert "joy/00.png" in table.split("train").sample_ids
    assert table.info.notes[:2] == [
        "train: 1 exact duplicates left out, images that stand more than once",
        "train: 1 exact duplicates left out, images that stand in valid too",
    ]


def test_same_id_in_two_sources_is_told_apart(request_: IngestRequest, tmp_path: Path) -> None:
    valid = write_folder(tmp_path / "valid", per_class=2, seed=1)

    table = ingest(replace(request_, valid=valid, test_ratio=0))

    assert table.split("valid").sample_ids[0] == "anger/00.png#2"


def test_two_labels_for_one_image_are_an_error(request_: IngestRequest, train: Path) -> None:
    (train / "joy" / "copy.png").write_bytes((train / "fear" / "03.png").read_bytes())

    message = "labels of one image must agree, got 'fear' for fear/03.png and 'joy' for joy/copy.png: .*, 2 of 37 rows"
    with pytest.raises(DataError, match=message):
        ingest(request_)

    assert_nothing_left(request_)
    assert sum(ingest(replace(request_, on_bad="skip")).info.rows.values()) == 35


def test_path_listed_with_two_labels_is_an_error(tmp_path: Path) -> None:
    source = manifest(tmp_path)
    source.write_text(source.read_text() + "train0.png,joy\n")

    with pytest.raises(DataError, match=r"got 'anger' for train0.png and 'joy' for train0.png: .*train.csv, 2 of 31"):
        ingest(IngestRequest(source, tmp_path / "table"))


def test_row_listed_twice_counts_once(tmp_path: Path) -> None:
    source = manifest(tmp_path)
    source.write_text(source.read_text() + "train0.png,anger\n")

    assert sum(ingest(IngestRequest(source, tmp_path / "table")).info.rows.values()) == 30


def test_valid_source_without_a_face_of_the_classes_is_named(request_: IngestRequest, tmp_path: Path) -> None:
    valid = write_folder(tmp_path / "valid", per_class=2, seed=1, classes=("fear",))

    message = "valid must have faces of the classes that are no copies of others, got 0: .*valid"
    with pytest.raises(DataError, match=message):
        ingest(replace(request_, valid=valid, classes=("joy", "anger")))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "0 bytes"), (b"text", "not an image of a known format")], ids=["zero bytes", "text"]
)
def test_unreadable_image_is_named(request_: IngestRequest, train: Path, content: bytes, reason: str) -> None:
    (train / "fear" / "05.png").write_bytes(content)
    (train / "joy" / "05.png").write_bytes(content)

    message = rf"2 of 36 images could not be read, first fear/05.png \({reason}\): .*; --on-bad skip leaves them out"
    with pytest.raises(DataError, match=message):
        ingest(request_)

    assert_nothing_left(request_)


def test_unreadable_image_is_left_out_when_asked_to(request_: IngestRequest, train: Path) -> None:
    (train / "fear" / "05.png").write_bytes(b"")

    info = ingest(replace(request_, on_bad="skip")).info

    assert sum(info.rows.values()) == 35
    assert info.notes[0].startswith("warning: 1 of 36 images could not be read, first fear/05.png (0 bytes)")


def test_source_of_unreadable_images_alone_is_an_error(request_: IngestRequest, train: Path) -> None:
    for file in train.rglob("*.png"):
        file.write_bytes(b"")

    with pytest.raises(DataError, match=r"36 of 36 images could not be read, first anger/00.png"):
        ingest(replace(request_, on_bad="skip"))


def test_image_that_is_listed_but_missing_is_named(tmp_path: Path) -> None:
    source = manifest(tmp_path)
    (tmp_path / "train7.png").unlink()

    with pytest.raises(DataError, match=r"1 of 30 images .* first train7.png \(file can't be read \(No such file"):
        ingest(IngestRequest(source, tmp_path / "table"))


def test_class_in_valid_that_train_lacks_is_named(request_: IngestRequest, tmp_path: Path) -> None:
    valid = write_folder(tmp_path / "valid", per_class=2, seed=1, classes=("joy", "contempt"))

    message = r"class 'contempt' must have training faces, got 0: .*valid; there are anger, fear"
    with pytest.raises(DataError, match=message):
        ingest(replace(request_, valid=valid))


def test_class_that_nobody_shows_offers_the_near_miss(request_: IngestRequest) -> None:
    with pytest.raises(DataError, match=r"class 'feer' must have training faces, got 0: .*did you mean 'fear'"):
        ingest(replace(request_, classes=("feer", "joy")))


def test_class_with_one_face_is_named(request_: IngestRequest, train: Path) -> None:
    (train / "disgust").mkdir()
    draw(7).save(train / "disgust" / "a.png")

    message = "class 'disgust' must have at least 3 training faces, as 2 splits are cut from them, got 1"
    with pytest.raises(DataError, match=message):
        ingest(request_)


def test_class_with_one_face_is_named_where_nothing_is_cut(
    request_: IngestRequest, train: Path, tmp_path: Path
) -> None:
    valid = write_folder(tmp_path / "valid", per_class=2, seed=1)
    (train / "disgust").mkdir()
    draw(7).save(train / "disgust" / "a.png")

    with pytest.raises(DataError, match="class 'disgust' must have at least 2 training faces, got 1"):
        ingest(replace(request_, valid=valid, test_ratio=0))


def test_subjects_are_never_cut(tmp_path: Path) -> None:
    source = manifest(tmp_path, 90, person=lambda row: f"p{row // 5}")

    table = ingest(IngestRequest(source, tmp_path / "table"))

    sealed = table.sealed_test()
    assert sealed is not None
    people = [set(split.subjects) for split in (table.split("train"), table.split("valid"), sealed)]
    assert sum(len(p) for p in people) == len(set.union(*people)) == 18


def test_subject_in_two_sources_is_named(tmp_path: Path) -> None:
    request = IngestRequest(
        manifest(tmp_path, subject=lambda row: f"p{row}"), tmp_path / "table",
        valid=manifest(tmp_path, 6, "valid", subject=lambda row: f"p{row + 29}"), test_ratio=0,
    )  # fmt: skip

    with pytest.raises(DataError, match="a subject must stand in one split, got 'p29' in train and valid"):
        ingest(request)

    assert ingest(replace(request, on_bad="skip")).info.rows["train"] == 29


def test_one_subject_is_too_few_to_cut(tmp_path: Path) -> None:
    source = manifest(tmp_path, subject=lambda row: "ann")

    with pytest.raises(DataError, match=r"valid must have faces, got 0 of 30, which show 1 subjects: .*give a source"):
        ingest(IngestRequest(source, tmp_path / "table"))


def test_landmarks_in_pixels_become_shares_of_the_image(tmp_path: Path) -> None:
    source = manifest(tmp_path, landmarks=lambda row: " ".join(["10", "5"] * 68) if row else "")

    train = ingest(IngestRequest(source, tmp_path / "table", image_px=16)).split("train")

    landmarks = train.column("landmarks")
    assert landmarks is not None
    known = landmarks[~np.isnan(landmarks[:, 0])]
    assert (known == np.tile([0.5, 0.25], 68).astype(np.float32)).all()


def test_not_labelled_faces_are_kept(tmp_path: Path) -> None:
    source = manifest(tmp_path)
    source.write_text(source.read_text().replace("train0.png,anger", "train0.png,"))

    info = ingest(IngestRequest(source, tmp_path / "table")).info

    assert sum(info.rows.values()) == 30
    assert sum(sum(counts) for counts in info.class_counts.values()) == 29


def test_colour_and_size_are_those_of_the_images(request_: IngestRequest, train: Path) -> None:
    draw(5, px=400, colour=True).save(train / "joy" / "big.png")

    info = ingest(request_).info

    assert (info.image_px, info.channels) == (20, 3)


def test_size_is_capped(tmp_path: Path) -> None:
    for name in ("fear", "joy"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(4):
            draw(number + 10 * len(name), px=230).save(tmp_path / "train" / name / f"{number}.png")

    assert ingest(IngestRequest(tmp_path / "train", tmp_path / "table")).info.image_px == 224


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_px": 8}, "--image-px must be within 16..1024, got 8"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"valid_ratio": 0.0}, "--valid-ratio must be within 0..1 and above 0, .*got 0 and 0.1"),
        ({"valid_ratio": 0.6, "test_ratio": 0.5}, "must leave a tenth to train, got 1.1 together"),
    ],
    ids=["size", "workers", "no valid", "no train"],
)
def test_setting_out_of_its_range_is_named(request_: IngestRequest, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ingest(replace(request_, **settings))


def test_same_source_twice_is_refused(request_: IngestRequest) -> None:
    with pytest.raises(UsageError, match=r"--train, --valid and --test must be different sources, got .* twice"):
        ingest(replace(request_, valid=request_.train))


def test_output_folder_that_holds_something_is_refused_first(request_: IngestRequest) -> None:
    request_.out.mkdir(parents=True)
    (request_.out / "mine.txt").write_text("precious")

    with pytest.raises(OutputError, match="output folder must be new or empty"):
        ingest(replace(request_, train=Path("gone")))

    assert (request_.out / "mine.txt").read_text() == "precious"


def test_interrupt_leaves_nothing(request_: IngestRequest) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(request_, report=interrupt)

    assert_nothing_left(request_)


def test_full_disk_leaves_nothing_and_gets_a_sentence(request_: IngestRequest) -> None:
    def fill_disk(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"the disk is full, could not write .*table; nothing was left there"):
        ingest(request_, report=fill_disk)

    assert_nothing_left(request_)


def test_progress_ends_with_all_images(request_: IngestRequest) -> None:
    seen: list[tuple[int, int]] = []

    ingest(request_, report=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (36, 36)


@pytest.mark.slow
def test_real_faces_are_cleaned(real_faces: Path, tmp_path: Path) -> None:
    source = real_faces / "fer2013"
    six = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")

    table = ingest(
        IngestRequest(source / "train.parquet", tmp_path / "table", valid=source / "valid.parquet", classes=six)
    )

    images = [table.split("train").images, table.split("valid").images]
    counts = Counter(image.tobytes() for split in images for image in split)
    assert max(counts.values()) == 1
    assert table.info.image_px == 48
    assert table.info.channels == 1
    assert table.info.rows["valid"] > 2900
    assert any("the same image has two labels" in note for note in table.info.notes)


@pytest.mark.slow
def test_subjects_of_real_faces_are_never_cut(real_faces: Path, tmp_path: Path) -> None:
    request = IngestRequest(
        real_faces / "wild_faces" / "dev.parquet", tmp_path / "table", image_px=16, columns=ColumnNames(id="id")
    )

    table = ingest(request)

    assert not set(table.split("train").subjects) & set(table.split("valid").subjects)
