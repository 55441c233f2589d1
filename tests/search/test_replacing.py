"""An output folder takes an earlier one's place in one step, or not at all."""

import threading
from pathlib import Path

import pytest

from search.replacing import replaced_folder
from spaces.errors import OutputError


def is_ours(folder: Path) -> bool:
    return (folder / "ours.txt").is_file()


def make(folder: Path, content: str) -> Path:
    with replaced_folder(folder, is_ours=is_ours, what="an earlier note") as staging:
        (staging / "ours.txt").write_text(content)
    return folder


def test_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    out = make(tmp_path / "below" / "notes", "new")

    assert (out / "ours.txt").read_text() == "new"


def test_earlier_folder_is_whole_until_the_next_one_is(tmp_path: Path) -> None:
    out = make(tmp_path / "notes", "old")

    with replaced_folder(out, is_ours=is_ours, what="an earlier note") as staging:
        (staging / "ours.txt").write_text("new")
        during = (out / "ours.txt").read_text()

    assert during == "old"
    assert (out / "ours.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    make(tmp_path / "notes", "old")
    (tmp_path / "latest").symlink_to("notes")

    make(tmp_path / "latest", "new")

    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "notes" / "ours.txt").read_text() == "new"


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that can't let two folders change places."""
    monkeypatch.setattr("search.replacing.ctypes.CDLL", lambda *_, **__: object())


def test_earlier_folder_is_replaced_where_the_system_knows_no_exchange(without_exchange: None, tmp_path: Path) -> None:
    make(tmp_path / "notes", "old")

    out = make(tmp_path / "notes", "new")

    assert (out / "ours.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_earlier_folder_comes_back_when_the_next_one_cannot_take_its_place(
    without_exchange: None, tmp_path: Path
) -> None:
    out = make(tmp_path / "notes", "old")

    with (
        pytest.raises(OutputError, match=f"output folder could not be replaced, No such file or directory: {out}"),
        pytest.MonkeyPatch.context() as patch,
        replaced_folder(out, is_ours=is_ours, what="an earlier note") as staging,
    ):
        (staging / "ours.txt").write_text("new")
        rename = Path.rename
        patch.setattr(Path, "rename", lambda path, to: rename(path / "gone" if path == staging else path, to))

    assert (out / "ours.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_earlier_folder_is_never_missing_while_it_is_replaced(tmp_path: Path) -> None:
    out = make(tmp_path / "notes", "0")
    missed: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            missed.extend([] if out.exists() else [1])

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(50):
        make(out, str(number))
    over.set()
    looker.join()

    assert missed == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_ours_is_refused_and_stays(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "notes"
    if kind == "folder":
        out.mkdir()
        (out / "theirs.txt").write_text("theirs")
    else:
        out.write_text("theirs")

    with pytest.raises(OutputError, match=f"must be new, empty or an earlier note, got {out}; choose another"):
        make(out, "new")

    assert [path.name for path in tmp_path.rglob("*.txt")] == (["theirs.txt"] if kind == "folder" else [])
    assert out.exists()
