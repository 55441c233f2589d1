"""Malformed input to the program as people start it: a process of its own, its real output, its exit code."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import CheckWords

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 180
"""Of wall time: most of it is Python's, torch's and MLflow's start."""

Make = Callable[[Path], Any]

BOMB = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)).replace("*a0", "x")


def _faces(folder: bytes, n: int = 12) -> None:
    """A folder of class folders, whatever bytes its name is made of."""
    for number in range(n):
        place = os.path.join(folder, (b"anger", b"fear")[number % 2])
        os.makedirs(place, exist_ok=True)
        content = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)).save(content, "PNG")
        with open(os.path.join(place, b"%d.png" % number), "wb") as file:
            file.write(content.getvalue())


def _with(name: str, content: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return make


def _pipe(name: str) -> Make:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)

    return make


CASES: dict[str, tuple[int, Make, list[str | bytes]]] = {
    "a space that is a bomb": (
        2,
        _with("s.yaml", BOMB.encode() + b"fixed: {train.epochs: *a11}\n"),
        ["spaces", "check", "s.yaml"],
    ),
    "a space of half a letter": (
        2,
        _with("s.yaml", b'name: x\ndescription: "\\ud800"\n'),
        ["spaces", "check", "s.yaml"],
    ),
    "a space that nobody writes": (2, _pipe("s.yaml"), ["spaces", "show", "s.yaml"]),
    "a space whose name is no text": (2, lambda folder: None, ["spaces", "check", b"\xff.yaml"]),
    "a torn table": (1, _with("t/dataset.json", b"{"), ["data", "show", "t"]),
    "a table that nobody writes": (1, _pipe("t/dataset.json"), ["data", "show", "t", "--json"]),
    "a path that climbs": (
        1,
        _with("f.csv", b"path,label\n../x.png,anger\n"),
        ["data", "ingest", "--train", "f.csv", "--out", "t"],
    ),
    "a source that nobody writes": (1, _pipe("f.csv"), ["data", "ingest", "--train", "f.csv", "--out", "t"]),
    "a torn source": (1, _with("f.parquet", b"PAR1"), ["evaluate", "m", "--source", "f.parquet"]),
    "a model that nobody writes": (1, _pipe("m/MLmodel"), ["predict", "m", "/dev/null"]),
    "a model that is a pickle": (
        1,
        _with("m/MLmodel", b"flavors: {python_function: {loader_module: mlflow.sklearn}}"),
        ["predict", "m", "/dev/null"],
    ),
    "an image without end": (1, lambda folder: None, ["predict", "m", "/dev/zero"]),
    "a table whose name is no text": (1, lambda folder: None, ["data", "show", b"\xff"]),
    "a place whose name is no text": (1, lambda folder: None, ["data", "synth", "--out", b"\xff"]),
    "a torn search": (1, _with("runs/x/search.json", b"{"), ["export", "x", "--out", "m"]),
    "a search whose name is no text": (1, lambda folder: None, ["resume", b"\xff"]),
}
"""Name of a case to the exit code, what is made in an empty folder, and the words."""


def start(folder: Path, words: list[str | bytes]) -> "subprocess.CompletedProcess[bytes]":
    """Run the program in a folder, with nothing of ours in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFFECTUNE")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "AFFECTUNE_CACHE": "off", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "search.cli", *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "a space that is a bomb" else pytest.mark.faults) for c in CASES]
)
def test_program_says_in_a_sentence_what_is_wrong(case: str, check_words: "CheckWords", tmp_path: Path) -> None:
    code, make, words = CASES[case]
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    ended = start(tmp_path, words)

    assert ended.returncode == code, ended
    check_words(code, ended.stderr.decode(errors="replace"))
    assert ended.stdout == b""
    assert (
        sorted(
            path for path in tmp_path.rglob("*") if path.name != "lock" and not path.name.startswith("torchinductor")
        )
        == before
    )


@pytest.mark.faults
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["for people", "as json"])
def test_program_shows_a_table_of_faces_in_a_folder_whose_name_is_no_text(
    as_json: tuple[str, ...], check_words: "CheckWords", tmp_path: Path
) -> None:
    _faces(os.fsencode(tmp_path) + b"/\xff\xfe")

    ended = start(tmp_path, ["data", "ingest", "--train", b"\xff\xfe", "--out", "t", "--workers", "1", *as_json])

    assert ended.returncode == 0, ended
    check_words(0, ended.stderr.decode(errors="replace"))
    assert b"12 faces" in ended.stdout or as_json
