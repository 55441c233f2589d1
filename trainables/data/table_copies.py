"""Copies of face tables on this machine's own disk: made once by one process, mapped by all, named by their content."""

import fcntl
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spaces.errors import DataError, OutputError
from trainables.data.kept_folders import kept_folder, most_bytes, users_folder
from trainables.data.stores import Store
from trainables.data.table import INFO_FILE, DatasetInfo, parse_info
from trainables.data.table_copying import (
    CopyPlan,
    fill_copy,
    plan_copy,
    read_plan,
    read_stored_info,
    settle_copy,
    write_plan,
)
from trainables.embeddings.turns import one_at_a_time

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "AFFECTUNE_TABLES"
BOUND_VARIABLE = "AFFECTUNE_TABLES_GB"
DEFAULT_BOUND_GB = 100.0

BEGUN = ".begun"
"""What the folder of a copy that is not whole yet ends with."""

_KEY = re.compile(r"[0-9a-f]{16,128}")
_ROOM_LOCK = "room.lock"

Report = Callable[[float], None]
"""Told the share of a copy that is done."""


@dataclass(frozen=True)
class TableCopy:
    """One copy, or what was begun of one.

    Attributes:
        path: its folder.
        n_bytes: that it takes, or will.
        used_s: Unix time at which it was last opened by a process, or begun.
        source: of what table, as sentences name it; empty where that is not known.
    """

    path: Path
    n_bytes: int
    used_s: float
    source: str = ""

    @property
    def key(self) -> str:
        """The table's content hash."""
        return self.path.name.removesuffix(BEGUN)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return not self.path.name.endswith(BEGUN)


class TableCopies:
    """A folder of copies of face tables, each named by its content hash, so that a changed table is another copy.

    Attributes:
        folder: of the copies.
        max_bytes: that all may take; those that were not used for longest go first, never one that is in use.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._held: dict[Path, int] = {}

    def find(self, content_hash: str) -> Path | None:
        """The copy of a table, which this process keeps from being removed from now on; None where there is none."""
        path = self.folder / _checked_key(content_hash, where=str(self.folder))
        if path in self._held and _is_at(path, self._held[path]):
            return path
        handle = _hold(path)
        if handle is None:
            return None
        trouble = _trouble_of(path, content_hash)
        if trouble:
            os.close(handle)
            logger.warning("copy of a face table must be as it was made, got %s: %s; it is made anew", trouble, path)
            return None
        self._let_go(path)
        self._held[path] = handle
        with suppress(OSError):  # copies that may only be read
            os.utime(path)
        return path

    def fetch(
        self, store: Store, *, content_hash: str = "", until_s: float | None = None, report: Report | None = None
    ) -> Path:
        """The copy of the table in a store; made where there is none.

        While one process of this machine copies, others that want the same wait for it; should it be killed, the next
        takes over where it stood.

        Args:
            store: where the table is.
            content_hash: that the table must have; empty for any.
            until_s: Unix time at which copying, and waiting for another process that does, is given up.
            report: told the share that is done.

        Raises:
            DataError: there is no table, or another one, it is damaged, or the store does not answer (a StoreError).
            OutputError: the disk is full, the copy would be too large, or nothing can be kept in the folder.
            OutOfTime: the time is up; what was copied stays for the next.
        """
        until_s = math.inf if until_s is None else until_s  # who waits looks now and then, and so shows that he lives
        info, content = read_stored_info(store)
        key = _checked_key(info.content_hash, where=store.shown)
        check_same(info, content_hash, where=store.shown)
        found = self.find(key)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        with one_at_a_time(self.folder / f"{key}.lock", until_s=until_s) as is_ours:
            if not is_ours:
                raise self._unusable("no lock; it can't be written to, or its file system has none")
            found = self.find(key)
            if found is None:
                self._copy(store, (info, content), until_s=until_s, report=report)
                found = self.find(key)
        if found is None:
            raise DataError(f"copy of a face table must stay, got nothing there: {self.folder / key}")
        return found

    def entries(self) -> list[TableCopy]:
        """All copies and what was begun of some, the one that was used last first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _KEY.fullmatch(path.name.removesuffix(BEGUN)):
                with suppress(OSError):  # another process makes room
                    plan = read_plan(path)
                    n_bytes = plan.n_bytes if plan else sum(file.stat().st_size for file in path.iterdir())
                    found.append(TableCopy(path, n_bytes, path.stat().st_mtime, plan.source if plan else ""))
        return sorted(found, key=lambda copy: copy.used_s, reverse=True)

    def remove(self, copy: TableCopy) -> bool:
        """Remove a copy. Returns whether it was; one that a process uses or makes stays."""
        with one_at_a_time(self.folder / f"{copy.key}.lock", waits=False) as is_ours:
            return is_ours and _remove(copy.path)

    def _copy(
        self,
        store: Store,
        info: tuple[DatasetInfo, bytes],
        *,
        until_s: float,
        report: Report | None,
    ) -> None:
        final = self.folder / info[0].content_hash
        begun = final.with_name(f"{final.name}{BEGUN}")
        plan = plan_copy(store, info[0])
        with one_at_a_time(self.folder / _ROOM_LOCK, until_s=until_s):  # else two tables would both take the room
            self._make_room(plan, besides=(begun, final))
            try:
                write_plan(begun, plan)
            except OutputError:
                raise
            except OSError as error:
                raise self._unusable(str(error)) from error
        fill_copy(store, begun, plan, info, until_s=until_s, report=report)
        settle_copy(begun, final)

    def _make_room(self, plan: CopyPlan, *, besides: tuple[Path, ...]) -> None:
        others = [copy for copy in self.entries() if copy.path not in besides]
        n_others = sum(copy.n_bytes for copy in others)
        n_there = sum(file.stat().st_size for file in besides[0].glob("*.arrow"))
        for copy in reversed(others):
            n_free = shutil.disk_usage(self.folder).free + n_there
            if n_others + plan.n_bytes <= self.max_bytes and plan.n_bytes <= n_free:
                break
            if self.remove(copy):
                n_others -= copy.n_bytes
        if n_others + plan.n_bytes > self.max_bytes:
            beside = f" beside {n_others:,} of other copies in use" if n_others else ""
            raise OutputError(
                f"copies of face tables must fit into {BOUND_VARIABLE} ({self.max_bytes:,} bytes), "
                f"got {plan.n_bytes:,} bytes{beside}: {plan.source}; raise it"
            )
        n_free = shutil.disk_usage(self.folder).free + n_there
        if plan.n_bytes > n_free:
            raise OutputError(
                f"disk must have room for a copy of {plan.n_bytes:,} bytes, got {n_free:,}: {self.folder}; "
                f"{FOLDER_VARIABLE} names another folder"
            )

    def _let_go(self, path: Path) -> None:
        handle = self._held.pop(path, None)
        if handle is not None:
            os.close(handle)

    def _unusable(self, got: str) -> OutputError:
        return OutputError(
            f"folder of face tables' copies must be usable, got {got}: {self.folder}; "
            f"{FOLDER_VARIABLE} names another folder"
        )


def default_copies() -> TableCopies | None:
    """The copies that the environment names: one and the same within a process; None where they are switched off.

    Raises:
        UsageError: a variable makes no sense.
    """
    beside = kept_folder("AFFECTUNE_CACHE", users_folder()) or users_folder()
    folder = kept_folder(FOLDER_VARIABLE, None if beside is None else beside / "tables")
    return None if folder is None else _copies_at(folder, max_bytes=most_bytes(BOUND_VARIABLE, DEFAULT_BOUND_GB))


@cache
def _copies_at(folder: Path, *, max_bytes: int) -> TableCopies:
    return TableCopies(folder, max_bytes=max_bytes)


def check_same(info: DatasetInfo, content_hash: str, *, where: str) -> None:
    """Raise DataError where a table has not the hash that is wanted; empty for any."""
    if content_hash and info.content_hash != content_hash:
        raise DataError(
            f"face table must be the one that is searched on ({content_hash[:12]}), "
            f"got {info.content_hash[:12]}: {where}"
        )


def _checked_key(content_hash: str, *, where: str) -> str:
    """The hash names a folder, so that it must be one. Raises DataError."""
    if not isinstance(content_hash, str) or not _KEY.fullmatch(content_hash):
        raise DataError(f"content_hash of a face table must be hexadecimal, got {content_hash!r}: {where}")
    return content_hash


def _trouble_of(path: Path, content_hash: str) -> str:
    """What is wrong with a copy, as far as can be seen without reading all of it; empty where nothing is."""
    plan = read_plan(path)
    if plan is None:
        return "no note of what it holds"
    try:
        for name, file in plan.files.items():
            n_bytes = (path / name).stat().st_size
            if n_bytes != file.n_bytes:
                return f"{n_bytes:,} bytes of {file.n_bytes:,} in {name}"
        told = parse_info((path / INFO_FILE).read_bytes(), file=str(path / INFO_FILE)).content_hash
    except (OSError, DataError) as error:
        return str(error)
    return "" if told == content_hash else f"the hash {told[:12]}"


def _hold(path: Path) -> int | None:
    """Keep a folder from being removed while this process lives; None where it is not there.

    Where its file system has no locks, a mapped table outlives its folder.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        if _is_at(path, handle):
            return handle
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _remove(path: Path) -> bool:
    """Remove the folder of a copy that nobody holds."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    else:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    finally:
        os.close(handle)
    return False
