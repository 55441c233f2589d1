"""Outputs appear whole or not at all."""

import errno
import os
import re
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from spaces.errors import DataError, OutputError
from trainables.outputs import check_new_folder, new_file, new_folder, sweep_leftovers, write_text


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 10 kB: none at all, so pytest must print nothing meanwhile, its output may be a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_arrow(path: Path) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(10_000))], names=["a"])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def write_torch(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.zeros(10_000)}, file)


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"

    with new_folder(out) as staging:
        (staging / "x").write_text("1")
        assert not out.exists()

    assert (out / "x").read_text() == "1"
    assert everything_in(out.parent) == ["out"]


def test_folder_leaves_nothing_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "out") as staging:
        (staging / "x").write_text("1")
        raise KeyError("stop")

    assert everything_in(tmp_path) == []


def left_by(process: int, name: str, folder: Path) -> Path:
    """What a killed process had half written."""
    place = folder / f".{name}.{re.sub(r'[^a-zA-Z0-9_-]', '-', socket.gethostname())}~{process}.x1.partial"
    place.mkdir()
    (place / "half").write_text("1")
    return place


@pytest.fixture
def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_folder_sweeps_what_killed_processes_left_of_it(tmp_path: Path, dead_process: int) -> None:
    left_by(dead_process, "out", tmp_path)
    others = [left_by(os.getppid(), "out", tmp_path), left_by(dead_process, "elsewhere", tmp_path)]

    with new_folder(tmp_path / "out"):
        pass

    assert everything_in(tmp_path) == sorted(["out", *(path.name for path in others)])


def test_sweeping_everywhere_takes_files_too_and_leaves_those_of_other_machines(
    tmp_path: Path, dead_process: int
) -> None:
    (tmp_path / "below").mkdir()
    left_by(dead_process, "out", tmp_path / "below").joinpath("half").rename(tmp_path / ".f.elsewhere~1.partial")
    (tmp_path / "below" / ".g.7.partial").touch()  # of nobody we know

    sweep_leftovers(tmp_path, everywhere=True)

    assert everything_in(tmp_path) == [".f.elsewhere~1.partial", "below"]
    assert everything_in(tmp_path / "below") == [".g.7.partial"]


def test_folder_may_stand_there_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    with new_folder(tmp_path / "out") as staging:
        (staging / "x").write_text("1")

    assert everything_in(tmp_path / "out") == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_folder_is_refused_when_something_stands_there(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    (out if kind == "file" else out / "kept").write_text("mine")

    with pytest.raises(OutputError, match=r"output folder must be new or empty, got .*out; choose another or remove"):
        check_new_folder(out)
    with pytest.raises(OutputError), new_folder(out):
        pass


def test_file_keeps_its_old_content_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_text(path, "old")

    with pytest.raises(KeyError), new_file(path) as staging:
        staging.write_text("new")
        raise KeyError("stop")

    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["f"]


def test_file_is_replaced_when_the_block_ends_well(tmp_path: Path) -> None:
    write_text(tmp_path / "f", "old")
    write_text(tmp_path / "f", "new")

    assert (tmp_path / "f").read_text() == "new"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota is used up"), (errno.EROFS, "is read-only")],
    ids=["full", "quota", "read-only"],
)
def test_disk_troubles_get_a_sentence_and_leave_nothing(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(OutputError, match=f"{words}, could not write .*out; nothing was left there"):  # noqa: SIM117
        with new_folder(tmp_path / "out") as staging:
            (staging / "x").write_text("1")
            raise OSError(number, "as the system says")

    assert everything_in(tmp_path) == []


def test_other_errors_of_the_system_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_file(tmp_path / "out"):
        (tmp_path / "gone").read_text()


def test_file_is_refused_when_a_file_stands_where_its_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")

    with pytest.raises(OutputError, match="could not write"):
        write_text(tmp_path / "f" / "g", "2")


@pytest.mark.parametrize(
    "write",
    [lambda path: save_file({"a": torch.zeros(10_000)}, path), write_arrow, write_torch],
    ids=["safetensors", "arrow", "torch"],
)
def test_writers_with_errors_of_their_own_get_the_same_sentence(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OutputError, match=r"the file is too large, could not write .*out; nothing was left there"):  # noqa: SIM117
        with small_files(), new_file(tmp_path / "out") as staging:
            write(staging)

    assert everything_in(tmp_path) == []


def test_full_disk_is_known_by_the_words_of_a_writer(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full, could not write"), new_file(tmp_path / "out"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_error_that_is_a_sentence_already_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^image must"), new_folder(tmp_path / "out"):
        raise DataError("image must be readable, got No space left on device")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_place_where_no_folder_can_be_is_named() -> None:
    with pytest.raises(OutputError, match="no folder can be made there, could not write /proc/none/out"):
        write_text(Path("/proc/none/out"), "x")
    with (
        pytest.raises(OutputError, match="no folder can be made there, could not write /proc/none"),
        new_folder(Path("/proc/none")),
    ):
        pass
