"""CSV files, Parquet files and folders of faces as they should not be: a sentence, and no table."""

import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import Survives

LABELS = ("anger", "fear", "happiness")
N = 24
QUICK = {"a torn quote", "a path that climbs", "a pipe as image", "names of codes that are text", "a link to above"}


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


FACES = [_png(seed) for seed in range(N)]
"""Encoded, of 16 pixels."""


def _csv(change: Callable[[list[str]], list[str]] = lambda lines: lines) -> bytes:
    """A table of faces as CSV, its lines changed."""
    lines = ["path,label,subject,valence"]
    lines += [f"{row}.png,{LABELS[row % 3]},p{row},0.5" for row in range(N)]
    return ("\n".join(change(lines)) + "\n").encode()


def _line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:number], text, *lines[number + 1 :]]


CSV: dict[str, bytes] = {
    "empty": b"",
    "a header alone": b"path,label\n",
    "an empty header": b"\n" + _csv(),
    "commas alone": b",,,\n,,,\n",
    "random bytes": random.Random(2).randbytes(4096),
    "an image": FACES[0],
    "utf-16": _csv().decode().encode("utf-16"),
    "latin-1": _csv(_line(3, "3.png,fÿar,p3,0.5")).decode().encode("latin-1"),
    "latin-1 in the header": "path,label,größe\n0.png,anger,1\n".encode("latin-1"),
    "a torn quote": _csv(_line(5, '4.png,"fear,p4,0.5')),
    "a torn quote in the header": _csv(_line(0, 'path,"label,subject,valence')),
    "a line break in the header": _csv(_line(0, 'path,label,"sub\nject",valence')),
    "a quote too many": _csv(_line(5, '4.png,fe"ar"",p4,0.5')),
    "a row too short": _csv(_line(5, "4.png,fear")),
    "a row too long": _csv(_line(5, "4.png,fear,p4,0.5,1,2,3")),
    "zero bytes": _csv(_line(5, "4\0.png,fear,p4,0.5")),
    "a zero byte in the header": _csv(_line(0, "path,label\0,subject,valence")),
    "a zero byte in a label": _csv(_line(5, "4.png,fe\0ar,p4,0.5")),
    "no labels": b"path,name\n0.png,x\n",
    "no images": b"label,name\nanger,x\n",
    "a column twice": b"path,label,label\n0.png,anger,fear\n",
    "a million columns": ("path,label" + ",x" * 1_000_000 + "\n").encode(),
    "a million columns of names": ("path,label," + ",".join(f"c{i}" for i in range(150_000)) + "\n").encode(),
    "a header without end": b"path,label" + b"x" * 5_000_000,
    "a header of one long name": b"path,label," + b"y" * 200_000 + b"\n0.png,anger,1\n",
    "a missing file": _csv(_line(5, "nowhere.png,fear,p4,0.5")),
    "no path": _csv(_line(5, ",fear,p4,0.5")),
    "a path that climbs": _csv(_line(5, "../../etc/passwd,fear,p4,0.5")),
    "a path that climbs in between": _csv(_line(5, "a/../../4.png,fear,p4,0.5")),
    "a path that climbs as windows does": _csv(_line(5, "..\\..\\4.png,fear,p4,0.5")),
    "a path of the whole machine": _csv(_line(5, "/etc/passwd,fear,p4,0.5")),
    "the source itself": _csv(_line(5, "faces.csv,fear,p4,0.5")),
    "a folder as image": _csv(_line(5, "folder,fear,p4,0.5")),
    "a pipe as image": _csv(_line(5, "pipe.png,fear,p4,0.5")),
    "a device as image": _csv(_line(5, "zero.png,fear,p4,0.5")),
    "a very long path": _csv(_line(5, f"{'x' * 5000}.png,fear,p4,0.5")),
    "a deep path": _csv(_line(5, "a/" * 3000 + "4.png,fear,p4,0.5")),
    "a label of its own": _csv(_line(5, "4.png,surprise,p4,0.5")),
    "a label of 10,000 letters": _csv(_line(5, f"4.png,{'x' * 10_000},p4,0.5")),
    "a label with a line break": _csv(lambda lines: [line.replace("fear", '"fe\nar"') for line in lines]),
    "a label that turns round": _csv(lambda lines: [line.replace("fear", "\u202efear") for line in lines]),
    "a label of escapes": _csv(lambda lines: [line.replace("fear", "\x1b[31mfear") for line in lines]),
    "labels of 400 digits": _csv(lambda lines: [line.replace("fear", "9" * 400) for line in lines]),
    "labels all of 400 digits": _csv(
        lambda lines: [lines[0]] + [f"{row}.png,{'7' * 400}{row % 3},p{row},0.5" for row in range(N)]
    ),
    "labels of one class": _csv(
        lambda lines: [line.replace("fear", "anger").replace("happiness", "anger") for line in lines]
    ),
    "a class a face": _csv(lambda lines: [lines[0]] + [f"{row}.png,c{row},p{row},0.5" for row in range(N)]),
    "classes by the hundred": _csv(lambda lines: [lines[0]] + [f"{row}.png,c{row},p{row},0.5" for row in range(500)]),
    "a valence of text": _csv(_line(5, "4.png,fear,p4,high")),
    "a valence of 7": _csv(_line(5, "4.png,fear,p4,7")),
    "an infinite valence": _csv(_line(5, "4.png,fear,p4,inf")),
    "a long valence": _csv(_line(5, f"4.png,fear,p4,{'1' * 100_000}x")),
    "one image with two labels": _csv(_line(5, "5.png,fear,p4,0.5")),
    "landmarks of text": b"path,label,landmarks\n0.png,anger,a b c\n",
    "two landmarks": b"path,label,landmarks\n0.png,anger,0.5 0.5\n",
    "a split of nobody": b"path,label,split\n0.png,anger,often\n",
    "one person everywhere": b"path,label,subject,split\n"
    + "".join(f"{row}.png,{LABELS[row % 3]},p,{('train', 'valid', 'test')[row // 8]}\n" for row in range(N)).encode(),
}
"""Name of a case to a CSV file that no table can be made of."""

FINE_CSV: dict[str, bytes] = {
    "a byte order mark": b"\xef\xbb\xbf" + _csv(),
    "windows' line ends": _csv().replace(b"\n", b"\r\n"),
    "a line break in an id": _csv(
        lambda lines: [f"{line},id" if not i else f'{line},"a\nb{i}"' for i, line in enumerate(lines)]
    ),
    "an id twice": _csv(lambda lines: [f"{line},{'id' if not i else 'same'}" for i, line in enumerate(lines)]),
    "ids of 10,000 letters": _csv(
        lambda lines: [f"{line},{'id' if not i else 'x' * 10_000 + str(i)}" for i, line in enumerate(lines)]
    ),
    "a row twice": _csv(lambda lines: [*lines, lines[5]]),
    "odd letters": _csv(lambda lines: [line.replace("fear", "Angst \U0001f600 è") for line in lines]),
    "valence of nothing": _csv(_line(5, "4.png,fear,p4,")),
    "a valence that is no number": _csv(_line(5, "4.png,fear,p4,nan")),
    "quotes within": _csv(lambda lines: [line.replace("fear", '"fe""ar"') for line in lines]),
}
"""Odd, and right all the same."""


def _parquet(**changes: Any) -> Callable[[Path], None]:
    """A table of faces as Parquet, some columns others, or left out where None stands."""

    def write(path: Path) -> None:
        columns: dict[str, Any] = {
            "image": pa.array(FACES, pa.binary()),
            "label": pa.array([LABELS[row % 3] for row in range(N)]),
            "subject": pa.array([f"p{row}" for row in range(N)]),
        }
        columns = {name: column for name, column in {**columns, **changes}.items() if column is not None}
        pq.write_table(pa.table(columns), path)

    return write


def _nested(value: Any, kind: Any) -> Any:
    return pa.array([value] * N, kind)


def _with_metadata(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        table = pa.table({"image": FACES, "label": [row % 3 for row in range(N)]})
        pq.write_table(table.replace_schema_metadata({"huggingface": content}), path)

    return write


def _features(names: Any) -> bytes:
    return json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()


PARQUET: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b"") and None,  # type: ignore[func-returns-value]
    "random bytes": lambda path: path.write_bytes(random.Random(3).randbytes(4096)) and None,  # type: ignore[func-returns-value]
    "only the marks": lambda path: path.write_bytes(b"PAR1" * 2) and None,  # type: ignore[func-returns-value]
    "a footer without end": lambda path: path.write_bytes(b"PAR1" + b"\xff\xff\xff\x7fPAR1") and None,  # type: ignore[func-returns-value]
    "no rows": lambda path: pq.write_table(
        pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}), path
    ),
    "no columns": lambda path: pq.write_table(pa.table({}), path),
    "no labels": _parquet(label=None),
    "no images": _parquet(image=None),
    "labels of lists": _parquet(label=_nested(["anger"], pa.list_(pa.string()))),
    "labels of structs": _parquet(label=_nested({"name": "anger"}, pa.struct([("name", pa.string())]))),
    "labels of maps": _parquet(label=_nested([("a", "b")], pa.map_(pa.string(), pa.string()))),
    "labels of bytes": _parquet(label=_nested(b"anger", pa.binary())),
    "labels of durations": _parquet(label=_nested(5, pa.duration("s"))),
    "labels of times": _parquet(label=_nested(5, pa.timestamp("ns"))),
    "labels of words in a dictionary of bytes": _parquet(label=_nested(b"anger", pa.binary()).dictionary_encode()),
    "labels of nothing": _parquet(label=_nested(None, pa.null())),
    "labels that are no numbers": _parquet(label=_nested(float("nan"), pa.float64())),
    "labels that are infinite": _parquet(label=_nested(float("inf"), pa.float64())),
    "subjects of lists": _parquet(subject=_nested(["p"], pa.list_(pa.string()))),
    "images of numbers": _parquet(image=_nested(7, pa.int64())),
    "images of lists": _parquet(image=_nested([1, 2], pa.list_(pa.uint8()))),
    "images of structs of nothing": _parquet(image=_nested({"bytes": None}, pa.struct([("bytes", pa.binary())]))),
    "images of structs of others": _parquet(image=_nested({"size": 7}, pa.struct([("size", pa.int64())]))),
    "images of structs of numbers": _parquet(image=_nested({"bytes": 7}, pa.struct([("bytes", pa.int64())]))),
    "images of nothing": _parquet(image=_nested(None, pa.null())),
    "images of paths that climb": _parquet(image=_nested("../../etc/passwd", pa.string())),
    "images of paths of the machine": _parquet(
        image=_nested({"path": "/etc/passwd"}, pa.struct([("path", pa.string())]))
    ),
    "images of paths with zero bytes": _parquet(image=_nested("a\0b", pa.string())),
    "a valence of times": _parquet(valence=_nested(5, pa.timestamp("ns"))),
    "a valence of lists": _parquet(valence=_nested([0.5], pa.list_(pa.float32()))),
    "action units of structs": _parquet(action_units=_nested({"a": 1}, pa.struct([("a", pa.int8())]))),
    "action units of ragged lists": _parquet(action_units=_nested([[1], [2, 3]], pa.list_(pa.list_(pa.int8())))),
    "action units of texts": _parquet(action_units=_nested(["a"] * 12, pa.list_(pa.string()))),
    "landmarks of three numbers": _parquet(landmarks=_nested([1.0] * 3, pa.list_(pa.float32()))),
    "a hand of fractions": _parquet(hand=_nested(0.5, pa.float32())),
    "splits of numbers": _parquet(split=_nested(1, pa.int8())),
}
"""Name of a case to how a Parquet file is written that no table can be made of."""

FINE_PARQUET: dict[str, Callable[[Path], None]] = {
    "metadata that are no json": _with_metadata(b"{"),
    "metadata of a list": _with_metadata(b"[1]"),
    "features of a list": _with_metadata(b'{"info": {"features": [1]}}'),
    "features of text": _with_metadata(b'{"info": {"features": "many"}}'),
    "deep metadata": _with_metadata(b"[" * 100_000),
    "names of codes that are text": _with_metadata(_features("abc")),
    "names of codes that are numbers": _with_metadata(_features([1, 2, 3])),
    "names of codes that are a mapping": _with_metadata(_features({"0": "anger"})),
    "a name of codes too few": _with_metadata(_features(["anger", "fear", "happiness", "more"])),
    "labels in a dictionary": _parquet(label=pa.array([LABELS[row % 3] for row in range(N)]).dictionary_encode()),
    "labels of dots": _parquet(**{"label": None, "a.b": pa.array([LABELS[row % 3] for row in range(N)])}),
    "labels of huge numbers": _parquet(label=pa.array([1e300 * (1 + row % 3) for row in range(N)])),
    "labels of truth": _parquet(label=pa.array([row % 2 == 0 for row in range(N)])),
    "an odd column beside": _parquet(more=_nested([{"a": [1]}], pa.list_(pa.struct([("a", pa.list_(pa.int8()))])))),
}
"""Odd, and right all the same."""


def _folder(path: Path) -> Path:
    for row, face in enumerate(FACES):
        file = path / LABELS[row % 3] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(face)
    return path


def _links_everywhere(path: Path) -> None:
    for name in LABELS:
        for number in range(12):
            (path / name / f"again{number}").symlink_to(path / name)


FOLDERS: dict[str, tuple[int, Callable[[Path], Any]]] = {
    "no folder": (1, lambda path: [file.unlink() for file in path.rglob("*.png")]),
    "a link to itself": (1, lambda path: (path / "anger" / "x.png").symlink_to(path / "anger" / "x.png")),
    "a link to nothing": (1, lambda path: (path / "anger" / "x.png").symlink_to("nowhere")),
    "a link to above": (1, lambda path: (path / "anger" / "up").symlink_to(path)),
    "links everywhere": (0, _links_everywhere),
    "a pipe": (1, lambda path: os.mkfifo(path / "anger" / "x.png")),
    "a device": (1, lambda path: (path / "anger" / "x.png").symlink_to("/dev/zero")),
    "a folder named as an image": (0, lambda path: (path / "anger" / "x.png").mkdir()),
    "a name that is no text": (1, lambda path: os.rename(path / "anger", os.fsencode(path) + b"/\xff\xfe") and None),
    "an image whose name is no text": (
        0,
        lambda path: os.rename(path / "anger" / "0.png", os.fsencode(path) + b"/anger/\xff.png"),
    ),
    "a name of escapes": (1, lambda path: (path / "anger").rename(path / "\x1b[31m")),
    "a name of 200 letters": (1, lambda path: (path / "anger").rename(path / ("x" * 200))),
    "an empty image": (1, lambda path: (path / "anger" / "x.png").write_bytes(b"")),
    "a folder of one class": (1, lambda path: [(path / name).rename(path / "anger" / name) for name in LABELS[1:]]),
    "parquet that is a folder": (0, lambda path: (path / "x.parquet").mkdir()),
    "parquet that is a link to nothing": (1, lambda path: (path / "x.parquet").symlink_to("nowhere")),
    "parquet that is a pipe": (1, lambda path: os.mkfifo(path / "x.parquet")),
    "parquet in two makes": (
        1,
        lambda path: [
            _parquet()(path / "a.parquet"),
            _parquet(label=_nested(["x"], pa.list_(pa.string())))(path / "b.parquet"),
        ],
    ),
    "parquet in two columns": (
        1,
        lambda path: [_parquet()(path / "a.parquet"), _parquet(label=None)(path / "b.parquet")],
    ),
}
"""Name of a case to the exit code and what is done to a good folder of class folders."""


def _cases(names: list[str]) -> list[Any]:
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.faults) for name in names]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder with images, and with what is none, for CSV files to name."""
    folder = tmp_path / "faces"
    (folder / "folder").mkdir(parents=True)
    for row, face in enumerate(FACES):
        (folder / f"{row}.png").write_bytes(face)
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    return folder


@pytest.mark.parametrize("case", _cases(list(CSV)))
def test_ingest_says_in_a_sentence_what_is_wrong_with_a_csv_file(case: str, faces: Path, survives: "Survives") -> None:
    (faces / "faces.csv").write_bytes(CSV[case])

    survives.ingest(faces / "faces.csv", codes=(1,))


@pytest.mark.faults
@pytest.mark.parametrize("case", list(FINE_CSV))
def test_ingest_takes_an_odd_csv_file(case: str, faces: Path, survives: "Survives") -> None:
    (faces / "faces.csv").write_bytes(FINE_CSV[case])

    survives.ingest(faces / "faces.csv", codes=(0,))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(24))
def test_ingest_judges_a_csv_file_that_was_damaged(
    seed: int, faces: Path, damage: Callable[[Path, int], str], survives: "Survives"
) -> None:
    (faces / "faces.csv").write_bytes(_csv())
    damage(faces / "faces.csv", seed)

    survives.ingest(faces / "faces.csv", "--on-bad", "skip", codes=(0, 1))


@pytest.mark.faults
@pytest.mark.parametrize("case", list(PARQUET))
def test_ingest_says_in_a_sentence_what_is_wrong_with_a_parquet_file(
    case: str, survives: "Survives", tmp_path: Path
) -> None:
    PARQUET[case](tmp_path / "faces.parquet")

    survives.ingest(tmp_path / "faces.parquet", codes=(1,))


@pytest.mark.parametrize("case", _cases(list(FINE_PARQUET)))
def test_ingest_takes_an_odd_parquet_file(case: str, survives: "Survives", tmp_path: Path) -> None:
    FINE_PARQUET[case](tmp_path / "faces.parquet")
    words = ("--label-column", "a.b") if case == "labels of dots" else ()

    survives.ingest(tmp_path / "faces.parquet", *words, codes=(0,))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(36))
def test_ingest_judges_a_parquet_file_that_was_damaged(
    seed: int, damage: Callable[[Path, int], str], survives: "Survives", tmp_path: Path
) -> None:
    _parquet()(tmp_path / "faces.parquet")
    damage(tmp_path / "faces.parquet", seed)

    survives.ingest(tmp_path / "faces.parquet", "--on-bad", "skip", codes=(0, 1))


@pytest.mark.parametrize("case", _cases(list(FOLDERS)))
def test_ingest_judges_a_folder_with_odd_things_in_it(case: str, survives: "Survives", tmp_path: Path) -> None:
    folder = _folder(tmp_path / "folder")
    code, spoil = FOLDERS[case]
    spoil(folder)

    survives.ingest(folder, codes=(code,))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["faces.csv", "faces.tsv", "faces.parquet", "faces"])
@pytest.mark.parametrize(
    "put",
    [
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="a device"),
        pytest.param(lambda path: path.symlink_to(path), id="a link to itself"),
    ],
)
def test_ingest_takes_files_and_folders_alone_for_a_source(
    put: Callable[[Path], Any], name: str, survives: "Survives", tmp_path: Path
) -> None:
    put(tmp_path / name)

    survives.ingest(tmp_path / name, codes=(1,))
