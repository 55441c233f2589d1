"""Face tables: what is written comes back as it was, without a copy, and a broken table gets a sentence."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spaces.errors import DataError, OutputError
from trainables.data.table import Faces, FaceTable, open_table, shared_table, write_table


def faces(n: int, *, seed: int = 0, px: int = 16, channels: int = 1) -> Faces:
    generator = np.random.default_rng(seed)
    return Faces(
        images=generator.integers(0, 256, (n, px, px, channels), dtype=np.uint8),
        expression=(np.arange(n) % 3 - (seed == 9)).astype(np.int8),
        sample_ids=[f"{seed}-{row}" for row in range(n)],
        subjects=[f"person {row % 2}" if row % 3 else None for row in range(n)],
        valence=generator.uniform(-1, 1, n).astype(np.float32),
        landmarks=generator.uniform(0, 1, (n, 136)).astype(np.float32),
    )


def write(out: Path, **splits: Faces) -> FaceTable:
    names = ["anger", "fear", "joy"]
    return write_table(out, splits=splits, classes=names, sources={"train": "drawn"})  # type: ignore[arg-type]


@pytest.fixture
def table_path(tmp_path: Path) -> Path:
    write(tmp_path / "table", train=faces(6), valid=faces(3, seed=1), test=faces(3, seed=2))
    return tmp_path / "table"


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_table_gives_back_what_was_written(tmp_path: Path, channels: int) -> None:
    given = faces(5, channels=channels)

    train = write(tmp_path / "table", train=given, valid=faces(3, seed=1, channels=channels)).split("train")

    assert (train.images == given.images).all()
    assert train.expression.tolist() == given.expression.tolist()
    assert train.sample_ids == list(given.sample_ids)
    assert train.subjects == [None, "person 1", "person 0", None, "person 0"]
    assert np.array_equal(train.column("landmarks"), given.landmarks)  # type: ignore[arg-type]
    assert np.array_equal(train.column("valence"), given.valence)  # type: ignore[arg-type]
    assert train.column("hand") is None


def test_images_are_a_read_only_view_of_the_file(table_path: Path) -> None:
    images = open_table(table_path).split("train").images

    assert not images.flags.owndata
    assert not images.flags.writeable
    assert images.flags.c_contiguous


def test_batches_become_one_contiguous_split(tmp_path: Path) -> None:
    def batches() -> Iterator[Faces]:
        yield from (faces(n, seed=n) for n in range(1, 40))

    train = write_table(tmp_path / "table", splits={"train": batches()}, classes=["a", "b", "c"], sources={}).split(
        "train"
    )

    expected = np.concatenate([faces(n, seed=n).images for n in range(1, 40)])
    assert train.images.flags.c_contiguous
    assert (train.images == expected).all()


def test_label_that_some_batches_lack_is_not_labelled_there(tmp_path: Path) -> None:
    known, plain = faces(2, seed=1), faces(2, seed=2)
    unknown = Faces(plain.images, plain.expression, plain.sample_ids)

    train = write_table(
        tmp_path / "table", splits={"train": [known, unknown]}, classes=["a", "b", "c"], sources={}
    ).split("train")

    valence = train.column("valence")
    assert valence is not None
    assert np.isnan(valence).tolist() == [False, False, True, True]


def test_info_counts_classes_people_and_labels(table_path: Path) -> None:
    info = open_table(table_path).info

    assert info.classes == ("anger", "fear", "joy")
    assert (info.image_px, info.channels) == (16, 1)
    assert info.rows == {"train": 6, "valid": 3, "test": 3}
    assert info.class_counts["train"] == [2, 2, 2]
    assert info.subjects["train"] == 2
    assert info.labels["valid"] == {"valence": 3, "landmarks": 3}


def test_mean_and_std_are_of_the_training_pixels_in_0_to_1(tmp_path: Path) -> None:
    given = faces(5, channels=3)

    info = write(tmp_path / "table", train=given, valid=faces(3, seed=1, channels=3)).info

    assert info.mean == pytest.approx((given.images / 255).mean(axis=(0, 1, 2)), abs=1e-6)
    assert info.std == pytest.approx((given.images / 255).std(axis=(0, 1, 2)), abs=1e-6)


def test_content_hash_is_that_of_the_faces(tmp_path: Path) -> None:
    first = write(tmp_path / "a", train=faces(4), valid=faces(3, seed=1)).info.content_hash
    again = write(tmp_path / "b", train=faces(4), valid=faces(3, seed=1)).info.content_hash
    changed = faces(4)
    changed.images[3, 0, 0, 0] ^= 1
    other = write(tmp_path / "c", train=changed, valid=faces(3, seed=1)).info.content_hash

    assert first == again != other


def test_test_split_is_sealed(table_path: Path) -> None:
    table = open_table(table_path)

    with pytest.raises(DataError, match=r"split must be train or valid, got 'test'.*sealed"):
        table.split("test")  # type: ignore[arg-type]

    sealed = table.sealed_test()
    assert sealed is not None
    assert sealed.n_rows == 3


def test_test_split_is_none_where_there_is_none(tmp_path: Path) -> None:
    assert write(tmp_path / "table", train=faces(4), valid=faces(3, seed=1)).sealed_test() is None


def test_face_may_be_not_labelled(tmp_path: Path) -> None:
    info = write(tmp_path / "table", train=faces(6, seed=9), valid=faces(3)).info

    assert info.rows["train"] - sum(info.class_counts["train"]) == 2


def test_writing_refuses_a_folder_that_holds_something(table_path: Path) -> None:
    with pytest.raises(OutputError, match=r"output folder must be new or empty, got .*table"):
        write(table_path, train=faces(3))


def test_writing_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images must be uint8"):
        write_table(
            tmp_path / "table",
            splits={"train": [faces(3), faces(3, seed=1, px=20)]},
            classes=["a", "b", "c"],
            sources={},
        )

    assert list(tmp_path.iterdir()) == []


def test_writing_refuses_an_id_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sample_id must be unique within a table, got '0-0' twice"):
        write(tmp_path / "table", train=faces(3), valid=faces(3))


def test_writing_refuses_an_expression_without_a_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expression must be below 2, the number of classes, got 2: train"):
        write_table(tmp_path / "table", splits={"train": faces(3)}, classes=["a", "b"], sources={})


def test_writing_refuses_a_table_without_training_faces(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split 'train' must hold a face, got 0"):
        write(tmp_path / "table", valid=faces(3))


@pytest.mark.parametrize(
    ("name", "got"), [("missing", "nothing there"), ("empty", "a folder without dataset.json"), ("file", "a file")]
)
def test_opening_what_is_no_table_says_so(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")

    with pytest.raises(DataError, match=f"face table must be a folder with dataset.json, got {got}"):
        open_table(tmp_path / name)


def test_opening_a_newer_version_asks_for_an_update(table_path: Path) -> None:
    info = json.loads((table_path / "dataset.json").read_text())
    (table_path / "dataset.json").write_text(json.dumps({**info, "version": 99}))

    with pytest.raises(DataError, match=r"face table must be of version 1, got 99: .*; update affectune"):
        open_table(table_path)


def test_opening_refuses_json_of_something_else(table_path: Path) -> None:
    (table_path / "dataset.json").write_text("{}")

    with pytest.raises(DataError, match=r"dataset.json must be of an affectune face table, got another format"):
        open_table(table_path)


def test_opening_refuses_a_broken_description(table_path: Path) -> None:
    (table_path / "dataset.json").write_text("{")

    with pytest.raises(DataError, match=r"dataset.json must be JSON"):
        open_table(table_path)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_opening_names_a_missing_split(table_path: Path, split: str) -> None:
    (table_path / f"{split}.arrow").unlink()

    with pytest.raises(DataError, match=f"face table must have a file {split}.arrow, got none"):
        open_table(table_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["empty", "half", "nearly"])
def test_opening_refuses_a_file_that_is_cut_off(table_path: Path, share: float) -> None:
    file = table_path / "valid.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(DataError, match=r"split must be a whole Arrow file, got \d+ bytes that are not: .*valid.arrow"):
        open_table(table_path)


def test_opening_refuses_a_split_of_another_table(tmp_path: Path, table_path: Path) -> None:
    write(tmp_path / "other", train=faces(6, px=20), valid=faces(4, seed=1, px=20))
    (table_path / "valid.arrow").write_bytes((tmp_path / "other" / "valid.arrow").read_bytes())

    with pytest.raises(DataError, match=r"column 'image' must be of type fixed_size_binary\[256\], got .*\[400\]"):
        open_table(table_path)


def test_opening_refuses_another_number_of_rows(tmp_path: Path, table_path: Path) -> None:
    write(tmp_path / "other", train=faces(5), valid=faces(4, seed=1))
    (table_path / "train.arrow").write_bytes((tmp_path / "other" / "train.arrow").read_bytes())

    with pytest.raises(DataError, match="train must have 6 rows, got 5"):
        open_table(table_path)


def test_shared_table_is_opened_once(table_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shared_table(table_path)
    monkeypatch.chdir(table_path.parent)

    assert shared_table(table_path) is first
    assert shared_table(Path("table")) is first


def test_shared_table_is_opened_anew_when_another_stands_in_its_place(table_path: Path) -> None:
    first = shared_table(table_path)
    shutil.rmtree(table_path)
    write(table_path, train=faces(4, seed=5), valid=faces(3, seed=1), test=faces(3, seed=2))

    second = shared_table(table_path)

    assert len(second.split("train")) == 4
    assert second.info.content_hash != first.info.content_hash
    assert len(first.split("train")) == 6, "who holds the first goes on with it"


def test_shared_table_keeps_one_table_open(table_path: Path, tmp_path: Path) -> None:
    first = shared_table(table_path)
    other = write(tmp_path / "other", train=faces(4), valid=faces(3, seed=1)).path

    assert shared_table(other).path == other.absolute()
    assert shared_table(table_path) is not first


def test_shared_table_is_refused_like_any_when_it_is_gone(table_path: Path) -> None:
    shared_table(table_path)
    shutil.rmtree(table_path)

    with pytest.raises(DataError, match=r"^face table must be a folder with dataset.json, got nothing there: "):
        shared_table(table_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rows": [6, 4, 3]}, r"dataset\.json must have the fields that this version writes, got rows \[6, 4, 3\]"),
        ({"faces": 1}, r"got 'faces' too: .*; update affectune"),
        ({"image_px": 10**9}, r"image_px must be within 1\.\.4096, got 1000000000: .*; ingest again"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
        ({"mean": [float("nan")]}, r"mean must be 1 numbers within 0\.\.1, got \[nan\]"),
        ({"classes": ["anger", "fe\nar", "joy"]}, r"name of a class must be printable .*, got 'fe\\nar'"),
        ({"classes": ["anger", "joy", "Joy"]}, "classes must differ"),
        ({"rows": {"train": 6, "valid": 4}}, r"rows must be told for train, valid, test, got \['train', 'valid'\]"),
        ({"rows": {"train": -1, "valid": 4, "test": 3}}, r"rows of train must be within 0\.\.2\^40, got -1"),
    ],
    ids=["type", "unknown", "size", "channels", "mean", "name", "twice", "split", "negative"],
)
def test_opening_refuses_a_description_that_can_not_be(
    table_path: Path, change: dict[str, object], problem: str
) -> None:
    info = json.loads((table_path / "dataset.json").read_text())
    (table_path / "dataset.json").write_text(json.dumps({**info, **change}))

    with pytest.raises(DataError, match=problem):
        open_table(table_path)


def test_split_refuses_other_counts_of_classes_than_the_table_tells(table_path: Path) -> None:
    info = json.loads((table_path / "dataset.json").read_text())
    counts = {**info["class_counts"], "train": [6, 0, 0]}
    (table_path / "dataset.json").write_text(json.dumps({**info, "class_counts": counts}))

    with pytest.raises(DataError, match=r"train must have \[6, 0, 0\] faces of its classes, as dataset.json says, got"):
        open_table(table_path).split("train").expression  # noqa: B018


def spoil_column(table_path: Path, name: str, make: Callable[[Any], Any]) -> None:
    """Write train.arrow again with one column replaced."""
    with pa.OSFile(str(table_path / "train.arrow")) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    columns = {each: make(batch.column(each)) if each == name else batch.column(each) for each in batch.schema.names}
    spoilt = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.OSFile(str(table_path / "train.arrow"), "wb") as sink, pa.ipc.new_file(sink, spoilt.schema) as writer:
        writer.write_batch(spoilt)


def test_split_refuses_an_expression_of_no_class(table_path: Path) -> None:
    spoil_column(table_path, "expression", lambda column: pa.array([77] * len(column), pa.int8()))

    with pytest.raises(DataError, match=r"expression must be within -1\.\.2, got 77: .*train\.arrow; ingest again"):
        open_table(table_path).split("train").expression  # noqa: B018


def test_split_refuses_a_label_out_of_its_range(table_path: Path) -> None:
    spoil_column(table_path, "valence", lambda column: pa.array([7.0] * len(column), pa.float32()))

    with pytest.raises(DataError, match=r"valence must be within -1\.\.1, got 7: .*train\.arrow"):
        open_table(table_path).split("train").column("valence")


def test_split_refuses_texts_that_begin_nowhere(table_path: Path) -> None:
    def shift(column: Any) -> Any:
        offsets = np.frombuffer(column.buffers()[1], np.int32).copy()
        offsets[2] = 1 << 30
        return pa.Array.from_buffers(pa.string(), len(column), [None, pa.py_buffer(offsets), column.buffers()[2]])

    spoil_column(table_path, "sample_id", shift)

    with pytest.raises(
        DataError, match=r"split must hold whole texts, got others \(.*\): .*train\.arrow; ingest again"
    ):
        open_table(table_path).split("train").sample_ids  # noqa: B018


def test_opening_refuses_rows_without_an_expression(table_path: Path) -> None:
    spoil_column(table_path, "expression", lambda column: pa.array([None] * len(column), pa.int8()))

    with pytest.raises(DataError, match="column 'expression' must have a value in each row, got none in 6"):
        open_table(table_path)
