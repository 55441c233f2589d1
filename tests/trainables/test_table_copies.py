"""Copies of tables on a machine's disk: made once, taken over from who was killed, never wrong, bounded in size."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spaces.errors import DataError, OutputError, UsageError
from trainables.budget import OutOfTime
from trainables.data import table_copying
from trainables.data.stores import FolderStore, ReadAt, StoreError
from trainables.data.table import FaceTable, open_table
from trainables.data.table_copies import BEGUN, TableCopies, default_copies
from trainables.data.table_hash import hash_table

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 4096
LARGE = 10**9
MakeTable = Callable[..., FaceTable]

COPIER = """\
import os, signal, sys, time
from pathlib import Path
from trainables.data import table_copying
from trainables.data.stores import FolderStore
from trainables.data.table_copies import TableCopies

table, copies, end, n_blocks = sys.argv[1:]
left = int(n_blocks)
write = table_copying._write

def write_and_end(path, block, **options):
    global left
    left -= 1
    if end == "killed" and not left:
        write(path, block[:1000], **options)
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, block, **options)
    if end == "stuck" and not left:
        time.sleep(600)

table_copying.BLOCK_BYTES = 4096
table_copying._write = write_and_end
print(TableCopies(Path(copies), max_bytes=10**9).fetch(FolderStore(Path(table))))
"""
"""Copies a table, but for how it ends after some blocks: `killed` in the midst of one, or `stuck`."""


class WatchedStore(FolderStore):
    """A folder that notes what is read of it, and breaks off where it is told to."""

    def __init__(self, folder: Path, breaks: Sequence[bool] = ()) -> None:
        super().__init__(folder)
        self.read: list[tuple[str, int]] = []
        self._breaks = iter(breaks)

    @contextmanager
    def reading(self, name: str) -> Iterator[ReadAt]:
        def watched(offset: int, n_bytes: int) -> bytes:
            if name.endswith(".arrow"):
                self.read.append((name, offset))
                if next(self._breaks, False):
                    raise StoreError("store of a face table must answer, got: nothing")
            return read_at(offset, n_bytes)

        with super().reading(name) as read_at:
            yield watched


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableCopies:
    """An empty folder of copies, which are made in small blocks."""
    monkeypatch.setattr(table_copying, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(table_copying, "N_READERS", 1)
    monkeypatch.setattr(table_copying, "PAUSE_S", 0.001)
    return TableCopies(tmp_path / "copies", max_bytes=LARGE)


def changed(table: FaceTable, folder: Path, name: str = "train.arrow") -> Path:
    """The table with another pixel, in a folder of its own; its dataset.json says what it was."""
    shutil.copytree(table.path, folder)
    file = np.memmap(folder / name, np.uint8, "r+")
    file[len(file) // 2] ^= 1
    file.flush()
    return folder


def cut_off(copies: TableCopies, table: FaceTable, n_blocks: int) -> Path:
    """Copy some blocks of the table's first file and die; what is left is what a killed copier leaves."""
    with pytest.raises(StoreError):
        copies.fetch(WatchedStore(table.path, [False] * n_blocks + [True] * 10))
    return copies.folder / f"{table.info.content_hash}{BEGUN}"


def test_copy_is_the_table(copies: TableCopies, labelled_table: FaceTable) -> None:
    path = copies.fetch(FolderStore(labelled_table.path))

    assert path == copies.folder / labelled_table.info.content_hash
    assert open_table(path).info == labelled_table.info
    assert hash_table(path) == labelled_table.info.content_hash
    assert [entry.name for entry in copies.folder.iterdir()] == [path.name]


def test_copy_is_made_once(copies: TableCopies, toy_table: FaceTable) -> None:
    first, second = WatchedStore(toy_table.path), WatchedStore(toy_table.path)

    path = copies.fetch(first)

    assert copies.fetch(second) == path == copies.find(toy_table.info.content_hash)
    assert first.read and not second.read


def test_table_that_changed_is_another_copy(copies: TableCopies, make_table: MakeTable) -> None:
    before, after = make_table(train=(0, 1, 2)), make_table(train=(0, 1, 2, 0))

    paths = [copies.fetch(FolderStore(table.path)) for table in (before, after)]

    assert [len(open_table(path).split("train")) for path in paths] == [3, 4]


def test_share_that_is_done_is_told(copies: TableCopies, toy_table: FaceTable) -> None:
    shares: list[float] = []

    copies.fetch(FolderStore(toy_table.path), report=shares.append)

    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 10


def test_copying_goes_on_where_it_was_cut_off(copies: TableCopies, toy_table: FaceTable) -> None:
    begun = cut_off(copies, toy_table, n_blocks=7)
    store = WatchedStore(toy_table.path)

    path = copies.fetch(store)

    assert store.read[0] == ("train.arrow", 6 * BLOCK)
    assert hash_table(path) == toy_table.info.content_hash
    assert not begun.exists()


def test_copying_begins_anew_when_what_was_left_of_it_is_wrong(
    copies: TableCopies, toy_table: FaceTable, caplog: pytest.LogCaptureFixture
) -> None:
    begun = cut_off(copies, toy_table, n_blocks=7)
    with (begun / "train.arrow").open("r+b") as file:
        file.write(bytes(3 * BLOCK))  # as a machine leaves a file that fell before it was on its disk

    path = copies.fetch(FolderStore(toy_table.path))

    assert hash_table(path) == toy_table.info.content_hash
    assert "copy of a face table is begun anew" in caplog.text


def test_copying_begins_anew_when_the_files_were_written_again(
    copies: TableCopies, toy_table: FaceTable, tmp_path: Path
) -> None:
    cut_off(copies, toy_table, n_blocks=7)
    shutil.copytree(toy_table.path, tmp_path / "again")
    os.utime(tmp_path / "again" / "train.arrow", (1.0, 1.0))
    store = WatchedStore(tmp_path / "again")

    copies.fetch(store)

    assert store.read[0] == ("train.arrow", 0)


def test_store_that_breaks_off_is_asked_again_from_there(copies: TableCopies, toy_table: FaceTable) -> None:
    store = WatchedStore(toy_table.path, [False, False, True, True, False, True])

    path = copies.fetch(store)

    assert [offset // BLOCK for _, offset in store.read[:7]] == [0, 1, 2, 2, 2, 3, 3]
    assert hash_table(path) == toy_table.info.content_hash


def test_store_that_keeps_breaking_off_is_given_up(copies: TableCopies, toy_table: FaceTable) -> None:
    store = WatchedStore(toy_table.path, [True] * 100)

    with pytest.raises(StoreError, match="store of a face table must answer"):
        copies.fetch(store)

    assert len(store.read) == table_copying.TRIES


@pytest.mark.parametrize("name", ["train.arrow", "test.arrow"])
def test_damaged_table_is_refused_and_leaves_nothing_to_go_on_with(
    name: str, copies: TableCopies, face_table: FaceTable, tmp_path: Path
) -> None:
    damaged = changed(face_table, tmp_path / "damaged", name)
    told = face_table.info.content_hash
    sentence = (
        rf"must have the hash in its dataset\.json \({told[:12]}\), got [0-9a-f]+: .*damaged; it is damaged, ingest"
    )

    with pytest.raises(DataError, match=sentence):
        copies.fetch(FolderStore(damaged))

    assert copies.find(told) is None
    assert [file.name for file in (copies.folder / f"{told}{BEGUN}").iterdir()] == ["copy.json"]


def test_table_is_refused_when_it_is_not_the_one_that_is_wanted(copies: TableCopies, toy_table: FaceTable) -> None:
    with pytest.raises(DataError, match=r"must be the one that is searched on \(abcdef012345\), got [0-9a-f]{12}: "):
        copies.fetch(FolderStore(toy_table.path), content_hash="abcdef0123456789")

    assert not copies.folder.exists()


def test_table_is_refused_when_a_file_is_missing(copies: TableCopies, face_table: FaceTable, tmp_path: Path) -> None:
    shutil.copytree(face_table.path, tmp_path / "table")
    (tmp_path / "table" / "test.arrow").unlink()

    with pytest.raises(DataError, match=r"face table must have a file test\.arrow, got none: .*table; ingest again"):
        copies.fetch(FolderStore(tmp_path / "table"))


def test_hash_that_is_a_path_is_refused(copies: TableCopies, toy_table: FaceTable, tmp_path: Path) -> None:
    shutil.copytree(toy_table.path, tmp_path / "table")
    info = tmp_path / "table" / "dataset.json"
    info.write_text(info.read_text().replace(toy_table.info.content_hash, "../../out"))

    with pytest.raises(
        DataError, match=r"content_hash of a face table must be hexadecimal, got '\.\./\.\./out': .*table"
    ):
        copies.fetch(FolderStore(tmp_path / "table"))


def test_copy_that_was_cut_is_made_anew(
    copies: TableCopies, toy_table: FaceTable, caplog: pytest.LogCaptureFixture
) -> None:
    path = copies.fetch(FolderStore(toy_table.path))
    os.truncate(path / "valid.arrow", 100)
    another = TableCopies(copies.folder, max_bytes=LARGE)  # as in another process

    assert another.fetch(FolderStore(toy_table.path)) == path

    assert hash_table(path) == toy_table.info.content_hash
    assert "copy of a face table must be as it was made, got 100 bytes of" in caplog.text


def test_copying_is_given_up_in_time_and_can_be_gone_on_with(copies: TableCopies, toy_table: FaceTable) -> None:
    with pytest.raises(OutOfTime):
        copies.fetch(FolderStore(toy_table.path), until_s=time.time() - 1)

    assert (copies.folder / f"{toy_table.info.content_hash}{BEGUN}" / "train.arrow").stat().st_size == BLOCK


def test_full_disk_is_a_sentence(copies: TableCopies, toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (  # a limit on files is one of a process, for ever
        "import resource, sys; from pathlib import Path; from trainables.data.stores import FolderStore\n"
        "from trainables.data.table_copies import TableCopies\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "TableCopies(Path(sys.argv[2]), max_bytes=10**9).fetch(FolderStore(Path(sys.argv[1])))"
    )

    ended = _start(script, toy_table.path, copies.folder)
    _, said = ended.communicate(timeout=60)

    assert f"the file is too large, could not write {copies.folder}" in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("train.arrow; AFFECTUNE_TABLES names another folder")
    assert copies.find(toy_table.info.content_hash) is None
    assert hash_table(copies.fetch(FolderStore(toy_table.path))) == toy_table.info.content_hash


def test_copy_is_refused_when_the_disk_has_no_room(
    copies: TableCopies, toy_table: FaceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("trainables.data.table_copies.shutil.disk_usage", lambda _: usage)

    with pytest.raises(
        OutputError, match=r"disk must have room for a copy of [\d,]+ bytes, got 1,000: .*AFFECTUNE_TABLES"
    ):
        copies.fetch(FolderStore(toy_table.path))


def test_copies_that_were_not_used_for_longest_make_room(copies: TableCopies, make_table: MakeTable) -> None:
    tables = [make_table(train=(0, 1, 2) * n) for n in (10, 11, 12)]
    sizes = [sum(file.stat().st_size for file in table.path.glob("*.arrow")) for table in tables]
    for table, used_s in zip(tables[:2], (2000, 1000), strict=True):
        path = copies.folder / table.info.content_hash
        shutil.copytree(table.path, path)  # as another process leaves it, which holds nothing any more
        os.utime(path, (used_s, used_s))
    kept = TableCopies(copies.folder, max_bytes=sizes[0] + sizes[2] + 10_000)

    kept.fetch(FolderStore(tables[2].path))

    assert [entry.path.name for entry in kept.entries()] == [tables[2].info.content_hash, tables[0].info.content_hash]


def test_copy_that_is_in_use_is_never_removed(copies: TableCopies, make_table: MakeTable) -> None:
    used, wanted = make_table(train=(0, 1)), make_table(train=(0, 1, 2))
    path = copies.fetch(FolderStore(used.path))
    small = TableCopies(copies.folder, max_bytes=20_000)

    with pytest.raises(
        OutputError,
        match=r"AFFECTUNE_TABLES_GB \(20,000 bytes\), got [\d,]+ bytes beside [\d,]+ of other copies in use: ",
    ):
        small.fetch(FolderStore(wanted.path))

    assert path.exists() and not small.remove(small.entries()[0])


def test_folder_that_is_none_is_a_sentence(tmp_path: Path, toy_table: FaceTable) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        OutputError, match=r"copies must be usable, got .*: .*file/copies; AFFECTUNE_TABLES names another"
    ):
        TableCopies(tmp_path / "file" / "copies", max_bytes=LARGE).fetch(FolderStore(toy_table.path))


def test_folder_of_the_copies_is_beside_the_embeddings_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFFECTUNE_TABLES", raising=False)
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path))
    beside = default_copies()
    monkeypatch.setenv("AFFECTUNE_TABLES", "off")
    switched_off = default_copies()
    monkeypatch.setenv("AFFECTUNE_TABLES", str(tmp_path / "own"))
    monkeypatch.setenv("AFFECTUNE_TABLES_GB", "7")
    named = default_copies()

    assert beside is not None and (beside.folder, beside.max_bytes) == (tmp_path / "tables", 100 * 10**9)
    assert switched_off is None
    assert named is not None and (named.folder, named.max_bytes) == (tmp_path / "own", 7 * 10**9)


def test_size_of_the_copies_is_refused_when_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_TABLES_GB", "much")

    with pytest.raises(UsageError, match="AFFECTUNE_TABLES_GB must be a number of gigabytes from 0 up, got 'much'"):
        default_copies()


def _start(script: str, table: Path, folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(table), str(folder), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def _wait_for(file: Path, n_bytes: int) -> None:
    for _ in range(6000):
        if file.exists() and file.stat().st_size >= n_bytes:
            return
        time.sleep(0.01)
    pytest.fail(f"{n_bytes} bytes of {file} were not written within 60 s")


def test_copy_is_whole_when_copiers_are_killed_at_random_moments(copies: TableCopies, make_table: MakeTable) -> None:
    table = make_table(train=(0, 1, 2) * 60)
    generator = random.Random(5)
    for _ in range(2):
        copier = _start(COPIER, table.path, copies.folder, "killed", str(generator.randint(5, 15)))
        copier.communicate(timeout=60)
        assert copier.returncode == -signal.SIGKILL
        assert copies.find(table.info.content_hash) is None
    store = WatchedStore(table.path)

    path = copies.fetch(store)

    assert hash_table(path) == table.info.content_hash
    assert store.read[0][1] > 4 * BLOCK


def test_copier_that_waits_takes_over_when_the_other_is_killed(copies: TableCopies, make_table: MakeTable) -> None:
    table = make_table(train=(0, 1, 2) * 60)
    begun = copies.folder / f"{table.info.content_hash}{BEGUN}"
    stuck = _start(COPIER, table.path, copies.folder, "stuck", "10")
    _wait_for(begun / "train.arrow", 10 * BLOCK)
    waiting = _start(COPIER, table.path, copies.folder, "well", "0")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=1)

    stuck.kill()
    stuck.communicate()
    said, trouble = waiting.communicate(timeout=60)

    assert (waiting.returncode, trouble) == (0, "")
    assert said.strip() == str(copies.folder / table.info.content_hash)
    assert hash_table(Path(said.strip())) == table.info.content_hash
