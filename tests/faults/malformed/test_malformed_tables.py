"""Face tables as they should not be: damaged on disk, edited by hand, or of another make."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from trainables.data.labels import ACTION_UNITS
from trainables.data.split_file import Faces
from trainables.data.table import write_table

if TYPE_CHECKING:
    from conftest import Mutants, Survives

CLASSES = ("anger", "fear", "happiness")
PX = 16
N_MUTANTS = 24
QUICK = {"rows of text", "a label of no class", "a valence of 7", "texts that begin nowhere", "0"}


def _faces(n: int, seed: int) -> Faces:
    draw = np.random.default_rng(seed)
    return Faces(
        images=draw.integers(0, 256, (n, PX, PX, 1), dtype=np.uint8),
        expression=(np.arange(n) % len(CLASSES)).astype(np.int8),
        sample_ids=[f"{seed}-{row}" for row in range(n)],
        subjects=[f"p{seed}-{row // 4}" for row in range(n)],
        valence=draw.uniform(-1, 1, n).astype(np.float32),
        arousal=draw.uniform(-1, 1, n).astype(np.float32),
        action_units=draw.integers(0, 2, (n, len(ACTION_UNITS))).astype(np.int8),
        hand=draw.integers(0, 2, n).astype(np.int8),
    )


@pytest.fixture(scope="module")
def good_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table with labels of all kinds. Copied by every test."""
    out = tmp_path_factory.mktemp("good") / "table"
    splits = {name: _faces(n, seed) for seed, (name, n) in enumerate({"train": 24, "valid": 13, "test": 12}.items())}
    return write_table(out, splits=splits, classes=CLASSES, sources={"train": "made"}).path  # type: ignore[arg-type]


@pytest.fixture
def table(good_table: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(good_table, tmp_path / "table"))


def _describe(**changes: Any) -> Callable[[Path], None]:
    """Some fields of dataset.json replaced."""

    def spoil(table: Path) -> None:
        document = json.loads((table / "dataset.json").read_text())
        (table / "dataset.json").write_text(json.dumps({**document, **changes}))

    return spoil


def _without(name: str) -> Callable[[Path], None]:
    def spoil(table: Path) -> None:
        document = json.loads((table / "dataset.json").read_text())
        del document[name]
        (table / "dataset.json").write_text(json.dumps(document))

    return spoil


def _text(content: bytes) -> Callable[[Path], None]:
    return lambda table: (table / "dataset.json").write_bytes(content) and None  # type: ignore[func-returns-value]


def _column(name: str, make: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A column of train replaced, or left out where `make` gives None."""

    def spoil(table: Path) -> None:
        with pa.OSFile(str(table / "train.arrow")) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
        columns = {each: batch.column(each) for each in batch.schema.names}
        made = make(columns.pop(name))
        _write(table / "train.arrow", {**columns, **({} if made is None else {name: made})})

    return spoil


def _write(path: Path, columns: dict[str, Any], *, n_batches: int = 1) -> None:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for _ in range(n_batches):
            writer.write_batch(batch)


def _texts_nowhere(column: Any) -> Any:
    offsets = np.frombuffer(column.buffers()[1], np.int32).copy()
    offsets[5] = 1 << 30
    return pa.Array.from_buffers(pa.string(), len(column), [None, pa.py_buffer(offsets), column.buffers()[2]])


def _no_utf8(column: Any) -> Any:
    content = bytearray(column.buffers()[2].to_pybytes())
    content[3] = 0xFF
    return pa.Array.from_buffers(pa.string(), len(column), [None, column.buffers()[1], pa.py_buffer(bytes(content))])


def _replaced(values: list[Any], kind: Any) -> Callable[[Any], Any]:
    return lambda column: pa.array((values * len(column))[: len(column)], kind)


def _swap(table: Path) -> None:
    (table / "train.arrow").rename(table / "x")
    (table / "valid.arrow").rename(table / "train.arrow")
    (table / "x").rename(table / "valid.arrow")


def _swap_and_say_so(table: Path) -> None:
    _swap(table)
    rows = json.loads((table / "dataset.json").read_text())["rows"]
    _describe(rows={"train": rows["valid"], "valid": rows["train"], "test": rows["test"]})(table)


def _two_batches(table: Path) -> None:
    with pa.OSFile(str(table / "train.arrow")) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    _write(table / "train.arrow", {name: batch.column(name) for name in batch.schema.names}, n_batches=2)


def _put(name: str, put: Callable[[Path], Any]) -> Callable[[Path], None]:
    def spoil(table: Path) -> None:
        (table / name).unlink()
        put(table / name)

    return spoil


SPOILT: dict[str, Callable[[Path], None]] = {
    "no description": lambda table: (table / "dataset.json").unlink(),
    "an empty description": _text(b""),
    "a torn description": _text(b'{"format": "affectune face table", "version": 1, "cla'),
    "a description in latin-1": _text('{"format": "é"}'.encode("latin-1")),
    "a list as description": _text(b"[]"),
    "a deep description": _text(b"[" * 200_000),
    "a description of brackets": _text(b'{"format": ' + b"[" * 100_000),
    "another format": _describe(format="another"),
    "a newer version": _describe(version=2),
    "a version of text": _describe(version="one"),
    "a field of a newer version": _describe(faces="many"),
    "no classes": _without("classes"),
    "no counts": _without("class_counts"),
    "no hash": _without("content_hash"),
    "classes of numbers": _describe(classes=[1, 2, 3]),
    "classes that are text": _describe(classes="anger"),
    "a class twice": _describe(classes=["anger", "fear", "Fear"]),
    "a class too few": _describe(classes=["anger", "fear"]),
    "a class too many": _describe(classes=[*CLASSES, "sadness"]),
    "a thousand classes": _describe(classes=[f"c{i}" for i in range(1000)]),
    "a class with a line break": _describe(classes=["anger", "fe\nar", "happiness"]),
    "a class of half a letter": _describe(classes=["anger", "\ud800", "happiness"]),
    "a class without a name": _describe(classes=["anger", "", "happiness"]),
    "images of text": _describe(image_px="big"),
    "images of nothing": _describe(image_px=0),
    "images below nothing": _describe(image_px=-16),
    "images of half a pixel": _describe(image_px=16.5),
    "images as large as a country": _describe(image_px=10**9),
    "images of 10^30": _describe(image_px=10**30),
    "two channels": _describe(channels=2),
    "a million channels": _describe(channels=10**6),
    "no mean": _describe(mean=[]),
    "a mean that is no number": _describe(mean=[float("nan")]),
    "a std of text": _describe(std=["a"]),
    "a std below 0": _describe(std=[-0.1]),
    "rows of text": _describe(rows={"train": "24", "valid": 13, "test": 12}),
    "rows that are a list": _describe(rows=[24, 13, 12]),
    "rows below 0": _describe(rows={"train": -24, "valid": 13, "test": 12}),
    "rows of a split that is not there": _describe(rows={"train": 24, "valid": 13, "test": 12, "more": 1}),
    "rows without test": _describe(rows={"train": 24, "valid": 13}),
    "a huge row count": _describe(rows={"train": 10**12, "valid": 13, "test": 12}),
    "a row count of 10^40": _describe(rows={"train": 10**40, "valid": 13, "test": 12}),
    "counts of another table": _describe(class_counts={"train": [20, 2, 2], "valid": [5, 4, 4], "test": [4, 4, 4]}),
    "counts above the rows": _describe(class_counts={"train": [80, 8, 8], "valid": [5, 4, 4], "test": [4, 4, 4]}),
    "counts that are numbers": _describe(class_counts={"train": 24, "valid": 13, "test": 12}),
    "labels of text": _describe(labels={"train": {"hand": "all"}}),
    "subjects that are a list": _describe(subjects=["p1"]),
    "notes of numbers": _describe(notes=[1]),
    "sources that are a list": _describe(sources=["made"]),
    "a hash of numbers": _describe(content_hash=7),
    "no train": lambda table: (table / "train.arrow").unlink(),
    "an empty train": lambda table: (table / "train.arrow").write_bytes(b"") and None,  # type: ignore[func-returns-value]
    "a train of text": lambda table: (table / "train.arrow").write_text("train") and None,  # type: ignore[func-returns-value]
    "a train of zeros": lambda table: (table / "train.arrow").write_bytes(bytes(8192)) and None,  # type: ignore[func-returns-value]
    "splits swapped": _swap,
    "splits swapped, and their rows": _swap_and_say_so,
    "two batches": _two_batches,
    "no images": _column("image", lambda column: None),
    "no ids": _column("sample_id", lambda column: None),
    "ids of numbers": _column("sample_id", _replaced([1], pa.int64())),
    "ids of nothing": _column("sample_id", _replaced([None], pa.string())),
    "texts that begin nowhere": _column("sample_id", _texts_nowhere),
    "people that begin nowhere": _column("subject", _texts_nowhere),
    "ids that are no text": _column("sample_id", _no_utf8),
    "narrow images": _column("image", _replaced([b"x" * 15], pa.binary(15))),
    "images that are lists": _column("image", _replaced([[1, 2]], pa.list_(pa.uint8()))),
    "images of nothing at all": _column("image", _replaced([None], pa.binary(PX * PX))),
    "a label of no class": _column("expression", _replaced([0, 1, 2, 77], pa.int8())),
    "a label below -1": _column("expression", _replaced([0, 1, 2, -3], pa.int8())),
    "labels of words": _column("expression", _replaced(["anger"], pa.string())),
    "labels of 64 bits": _column("expression", _replaced([0, 1], pa.int64())),
    "labels of nothing": _column("expression", _replaced([None, 1], pa.int8())),
    "labels of one class": _column("expression", _replaced([1], pa.int8())),
    "a valence of 7": _column("valence", _replaced([7.0], pa.float32())),
    "an infinite valence": _column("valence", _replaced([float("inf")], pa.float32())),
    "a valence of text": _column("valence", _replaced(["high"], pa.string())),
    "a valence of 64 bits": _column("valence", _replaced([0.5], pa.float64())),
    "an action unit of 99": _column("action_units", _replaced([[99] * 12], pa.list_(pa.int8(), 12))),
    "three action units": _column("action_units", _replaced([[1] * 3], pa.list_(pa.int8(), 3))),
    "a hand of 5": _column("hand", _replaced([5], pa.int8())),
    "a description that nobody writes": _put("dataset.json", os.mkfifo),
    "a train that nobody writes": _put("train.arrow", os.mkfifo),
    "a train without end": _put("train.arrow", lambda path: path.symlink_to("/dev/zero")),
    "a train that links to itself": _put("train.arrow", lambda path: path.symlink_to(path)),
    "a description that links to itself": _put("dataset.json", lambda path: path.symlink_to(path)),
    "a train that is a folder": _put("train.arrow", Path.mkdir),
    "a description that is a folder": _put("dataset.json", Path.mkdir),
}
"""Name of a case to what is done to a good table."""


def _cases(names: list[str]) -> list[Any]:
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.faults) for name in names]


@pytest.mark.parametrize("case", _cases(list(SPOILT)))
def test_spoilt_table_is_refused_in_a_sentence_and_nothing_is_made_of_it(
    case: str, table: Path, good_table: Path, survives: "Survives", tmp_path: Path
) -> None:
    SPOILT[case](table)

    survives("data", "merge", table, good_table, "--out", tmp_path / "merged", codes=(1,))


@pytest.mark.faults
@pytest.mark.parametrize("case", list(SPOILT))
def test_spoilt_table_is_not_drawn_as_if_it_were_whole(case: str, table: Path, survives: "Survives") -> None:
    SPOILT[case](table)

    answer = survives("data", "show", table, "--sheet", "sheet.png", codes=(0, 1), writes=["sheet.png"])

    assert answer.code == 1 or Path("sheet.png").is_file()


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=() if s == 0 else pytest.mark.faults) for s in range(N_MUTANTS)]
)
def test_table_damaged_on_disk_is_refused_or_read_whole(
    seed: int, table: Path, good_table: Path, damage: Callable[[Path, int], str], survives: "Survives", tmp_path: Path
) -> None:
    names = ("train.arrow", "valid.arrow", "dataset.json")
    damage(table / names[seed % 5 % 3], seed)

    answer = survives(
        "data",
        "merge",
        table,
        good_table,
        "--out",
        tmp_path / "merged",
        "--on-bad",
        "skip",
        codes=(0, 1),
        writes=["merged(/.*)?"],
    )

    assert sorted(path.name for path in (tmp_path / "merged").glob("*")) == (
        [] if answer.code else ["dataset.json", "test.arrow", "train.arrow", "valid.arrow"]
    )


@pytest.mark.faults
def test_table_of_whose_description_a_part_is_another_is_refused_or_shown(
    table: Path, mutants: "Mutants", survives: "Survives"
) -> None:
    good = (table / "dataset.json").read_text()
    for what, mutant in mutants(json.loads(good), N_MUTANTS):
        print(what)
        (table / "dataset.json").write_text(json.dumps(mutant))
        survives("data", "show", table, codes=(0, 1))
