"""One face table copied from a store into a folder, so that a copier that was killed is taken over by the next."""

import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from spaces.errors import DataError, OutputError
from trainables.budget import check_time
from trainables.data.stores import ReadAt, Store, StoredFile, StoreError
from trainables.data.table import INFO_FILE, SPLITS, DatasetInfo, parse_info
from trainables.data.table_hash import hash_table
from trainables.outputs import disk_error, write_text

logger = logging.getLogger(__name__)

COPY_FILE = "copy.json"
"""In a copy's folder: what was copied, and from where."""

BLOCK_BYTES = 8 * 2**20
N_READERS = 4
"""Blocks that are asked for at once: an object store gives one stream at a time but a part of what the line takes."""

TRIES, PAUSE_S = 5, 2.0
"""How often a store is asked for a block that it does not give, and the first pause; each is twice the one before."""

MOST_INFO_BYTES = 64 * 2**20
"""More is no dataset.json."""


@dataclass(frozen=True)
class CopyPlan:
    """What is copied; `copy.json`.

    Attributes:
        source: the store, as sentences name it.
        files: by name, as the store tells of them.
    """

    source: str
    files: dict[str, StoredFile]

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(file.n_bytes for file in self.files.values())


def read_stored_info(store: Store) -> tuple[DatasetInfo, bytes]:
    """What a table in a store says of itself: read, and as it is written.

    Raises:
        DataError: there is no table.
        StoreError: the store does not answer.
    """
    rule = f"face table must be a folder with {INFO_FILE}"
    found = store.look(INFO_FILE)
    if found is None:
        raise DataError(f"{rule}, got {store.what_is_there()}: {store.shown}; `affectune data ingest` makes one")
    if found.n_bytes > MOST_INFO_BYTES:
        raise DataError(f"{INFO_FILE} must be at most {MOST_INFO_BYTES:,} bytes, got {found.n_bytes:,}: {store.shown}")
    with store.reading(INFO_FILE) as read_at:
        content = read_at(0, found.n_bytes)
    return parse_info(content, file=f"{store.shown.rstrip('/')}/{INFO_FILE}"), content


def plan_copy(store: Store, info: DatasetInfo) -> CopyPlan:
    """What is to be copied of a table. Raises DataError where a file of it is missing, StoreError as stores do."""
    files = {}
    for split in SPLITS:
        name = f"{split}.arrow"
        found = store.look(name)
        if found is not None:
            files[name] = found
        elif split != "test" or info.rows.get("test"):
            raise DataError(f"face table must have a file {name}, got none: {store.shown}; ingest again")
    return CopyPlan(store.shown, files)


def read_plan(folder: Path) -> CopyPlan | None:
    """What was, or is, copied into a folder; None where that is not known."""
    try:
        told = json.loads((folder / COPY_FILE).read_text(encoding="utf-8"))
        return CopyPlan(told["source"], {name: StoredFile(**file) for name, file in told["files"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_plan(folder: Path, plan: CopyPlan) -> None:
    """Note what is to be copied into a folder. What other files had been copied into it is removed."""
    before = read_plan(folder)
    for path in folder.iterdir() if folder.exists() else ():
        if before is None or before.files.get(path.name) != plan.files.get(path.name):
            path.unlink()
    folder.mkdir(exist_ok=True)
    write_text(folder / COPY_FILE, json.dumps(asdict(plan), indent=2) + "\n")


def fill_copy(
    store: Store,
    folder: Path,
    plan: CopyPlan,
    info: tuple[DatasetInfo, bytes],
    *,
    until_s: float | None = None,
    report: Callable[[float], None] | None = None,
) -> None:
    """Copy what is missing of a table, and make sure of all of it by its content hash.

    Of a file that another copier had begun, all but the end is taken as it is. If the hash then is another, everything
    is copied anew, once.

    Args:
        store: where the table is.
        folder: with the plan in it, and what was copied before.
        plan: what to copy.
        info: the table's, read and as it is written.
        until_s: Unix time at which copying is given up; what is there stays for the next copier.
        report: told the share that is done.

    Raises:
        DataError: the table is not what its dataset.json says, or was replaced meanwhile.
        StoreError: the store does not answer.
        OutputError: the disk is full, or can't be written to.
        OutOfTime: the time is up.
    """
    told, content = info
    for is_first in (True, False):
        resumed = _copy_files(store, folder, plan, until_s=until_s, report=report or _tell_nobody)
        _write(folder / INFO_FILE, content)
        check_time(until_s)
        got = _hash_of(folder)
        if got == told.content_hash:
            return
        for name in (*plan.files, INFO_FILE):
            (folder / name).unlink(missing_ok=True)
        if not (resumed and is_first):
            break
        logger.warning("copy of a face table is begun anew, what a killed copier left of it was wrong: %s", folder)
    if read_stored_info(store)[1] != content:
        raise DataError(f"face table must stay while it is copied, got another one in its place: {store.shown}")
    raise DataError(
        f"content of a face table must have the hash in its {INFO_FILE} ({told.content_hash[:12]}), got {got}: "
        f"{store.shown}; it is damaged, ingest again"
    )


def _hash_of(folder: Path) -> str:
    """As a sentence says it where the files are no face table."""
    try:
        return hash_table(folder)
    except DataError as error:
        return f"none, since a {str(error).partition(':')[0]}"


def settle_copy(folder: Path, final: Path) -> None:
    """Give a whole copy its name, when the disk has all of it. Raises OutputError."""
    try:
        for path in (*folder.iterdir(), folder):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        if final.exists():
            shutil.rmtree(final)
        folder.rename(final)
    except OSError as error:
        raise _no_copy(error, final) from error


def _copy_files(
    store: Store, folder: Path, plan: CopyPlan, *, until_s: float | None, report: Callable[[float], None]
) -> bool:
    """Whether anything was there before."""
    n_done, resumed = 0, False
    for name, file in plan.files.items():
        start = _sure_bytes(folder / name, file.n_bytes)
        resumed |= start > 0
        n_done += start
        for n_new in _copy_file(store, folder / name, file.n_bytes, start=start):
            n_done += n_new
            report(n_done / max(plan.n_bytes, 1))
            check_time(until_s)
    return resumed


def _sure_bytes(path: Path, n_bytes: int) -> int:
    """How much of a file that another copier had begun is believed: not its last blocks, as written when it ended."""
    try:
        n_there = path.stat().st_size
    except OSError:
        return 0
    if n_there == n_bytes:
        return n_bytes
    return max(0, n_there // BLOCK_BYTES - 1) * BLOCK_BYTES if n_there < n_bytes else 0


def _copy_file(store: Store, path: Path, n_bytes: int, *, start: int) -> Iterator[int]:
    """Yields how many bytes each block added. A store that breaks off is asked again from there."""
    n_tries = 0
    while start < n_bytes:
        try:
            with store.reading(path.name) as read_at, closing(_iter_blocks(read_at, start, n_bytes)) as blocks:
                for block in blocks:
                    if len(block) < min(BLOCK_BYTES, n_bytes - start):
                        raise DataError(
                            f"file of a face table must have {n_bytes:,} bytes, got {start + len(block):,}: "
                            f"{path.name} of {store.shown}; it was replaced meanwhile"
                        )
                    _write(path, block, at=start)
                    start += len(block)
                    n_tries = 0
                    yield len(block)
        except StoreError as error:
            n_tries += 1
            if n_tries == TRIES:
                raise
            logger.warning("face table is copied on in a moment: %s", error)
            time.sleep(PAUSE_S * 2 ** (n_tries - 1))
    if not path.exists():  # of no bytes
        _write(path, b"")


def _iter_blocks(read_at: ReadAt, start: int, end: int) -> Generator[bytes, None, None]:
    """The blocks of a file in their order, some being read ahead."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(N_READERS) as pool:
        try:
            for offset in range(start, end, BLOCK_BYTES):
                waiting.append(pool.submit(read_at, offset, min(BLOCK_BYTES, end - offset)))
                if len(waiting) == N_READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write(path: Path, block: bytes, *, at: int = 0) -> None:
    """Write at an offset, behind which nothing stays. Raises OutputError."""
    try:
        with path.open("r+b" if path.exists() else "wb") as file:
            file.truncate(at)
            file.seek(at)
            file.write(block)
    except OSError as error:
        raise _no_copy(error, path) from error


def _no_copy(error: OSError, path: Path) -> OutputError:
    return disk_error(error.errno or 0, f"could not write {path}; AFFECTUNE_TABLES names another folder")


def _tell_nobody(_share: float) -> None:
    pass
