"""Embeddings on disk, shared by all processes of a machine: computed by one, mapped by the others, bounded in size."""

import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainables.data.kept_folders import kept_folder, most_bytes, users_folder
from trainables.embeddings.entry import SUFFIX, Header, map_entry, read_header, write_entry
from trainables.embeddings.faces import View
from trainables.embeddings.key import EmbeddingKey
from trainables.embeddings.turns import one_at_a_time
from trainables.outputs import new_file

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "AFFECTUNE_CACHE"
BOUND_VARIABLE = "AFFECTUNE_CACHE_GB"
DEFAULT_BOUND_GB = 20.0

PROFILES = "profiles"
"""Within the folder, beside the embeddings: what was measured of GPUs."""

_LARGEST_HEADER_BYTES = 16 * 1024
_ROOM_LOCK = "room.lock"


@dataclass(frozen=True)
class Entry:
    """One file of the cache.

    Attributes:
        path: of the file.
        n_bytes: its size.
        used_s: Unix time at which it was last mapped or written.
    """

    path: Path
    n_bytes: int
    used_s: float

    def header(self) -> Header | None:
        """What the file says of itself; None where it is broken or gone."""
        return read_header(self.path)


class EmbeddingCache:
    """A folder of embeddings, content-addressed.

    Nothing that is wrong with the folder is an error: embeddings are then computed and used from memory.

    Attributes:
        folder: of the whole cache; embeddings stand in a folder in it.
        max_bytes: that all entries may take; those that were not used for longest go first.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._entries = folder / "embeddings"
        self._checked: set[tuple[str, int, int, int]] = set()
        self._can_write = True
        self._has_complained = False

    def serves(self, key: EmbeddingKey) -> bool:
        """Whether the embeddings of a key are there, or could be kept as far as this process knows."""
        return os.path.exists(self._path(key)) or (self._can_write and self._fits(key.n_bytes))

    def fetch(self, key: EmbeddingKey, compute: Callable[[], View], *, until_s: float | None = None) -> View:
        """The embeddings of a key, mapped read-only; computed where no process of this machine has done so yet.

        While one process computes, others that want the same wait for it; should it be killed, the next takes over.

        Args:
            key: of the embeddings.
            compute: them, [rows, width], in float16 or float32.
            until_s: Unix time at which waiting for another process is given up; None for no end.

        Returns:
            [rows, width], read-only.

        Raises:
            OutOfTime: another process was not done in time.
        """
        path = self._path(key)
        found = self._find(path, key)
        if found is not None:
            return found
        if not self._can_write:
            return _read_only(compute())
        with suppress(OSError):
            self._entries.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(_lock_of(path), until_s=until_s) as is_ours:
            if not is_ours:
                self._give_up(f"{self._entries} can't be written to, or its file system has no locks")
                return _read_only(compute())
            found = self._find(path, key)
            return self._compute(path, key, compute) if found is None else found

    def entries(self) -> list[Entry]:
        """All of them, the one that was used last first."""
        return _files(self._entries, SUFFIX)

    def empty(self, *, unused_s: float | None = None) -> list[Entry]:
        """Remove entries, profiles of GPUs, and what killed processes left; mapped entries stay until a trial ends.

        Args:
            unused_s: only those that were not used for so many seconds, and profiles as old; all when omitted.

        Returns:
            Those that were removed, profiles last.

        Raises:
            PermissionError: the folder may not be written to.
        """
        before_s = math.inf if unused_s is None else time.time() - unused_s
        removed = [
            entry for entry in (*self.entries(), *_files(self.folder / PROFILES, ".json")) if entry.used_s <= before_s
        ]
        for entry in removed:
            entry.path.unlink(missing_ok=True)
        self._sweep()
        return removed

    def _path(self, key: EmbeddingKey) -> Path:
        return self._entries / f"{key.name}{SUFFIX}"

    def _find(self, path: Path, key: EmbeddingKey) -> View | None:
        """Map an entry; its checksum is compared when this process first sees the file."""
        try:
            stat = path.stat()
        except OSError:
            return None
        seen = (path.name, stat.st_dev, stat.st_ino, stat.st_size)
        found = map_entry(path, key, checks_sum=seen not in self._checked)
        if found is None:
            logger.info("file of the cache is broken or of another kind, and is computed anew: %s", path)
            return None
        self._checked.add(seen)
        with suppress(OSError):  # a cache that may only be read
            os.utime(path)
        return found

    def _compute(self, path: Path, key: EmbeddingKey, compute: Callable[[], View]) -> View:
        """Compute, write and map an entry, its lock being held; from memory where it can't be kept."""
        embeddings = compute()
        if not self._fits(embeddings.nbytes):
            return _read_only(embeddings)
        try:
            with one_at_a_time(self._entries / _ROOM_LOCK):  # else two that write at once would both take the room
                self._sweep()
                for stale in self._entries.glob(f".{path.name}.*.partial"):  # of a process that was killed
                    stale.unlink(missing_ok=True)
                self._make_room(embeddings.nbytes + _LARGEST_HEADER_BYTES, besides=path)
                with new_file(path) as staging:
                    write_entry(staging, key, embeddings)
        except OSError as error:
            self._give_up(str(error))
        found = self._find(path, key)
        return _read_only(embeddings) if found is None else found

    def _make_room(self, n_bytes: int, *, besides: Path) -> None:
        others = [entry for entry in self.entries() if entry.path != besides]
        used = sum(entry.n_bytes for entry in others)
        while others and used + n_bytes > self.max_bytes:
            oldest = others.pop()
            oldest.path.unlink(missing_ok=True)
            used -= oldest.n_bytes

    def _sweep(self) -> None:
        """Remove what killed processes left: files half written, and locks that nobody holds."""
        for partial in self._entries.glob(f".*{SUFFIX}.*.partial"):
            name = partial.name.removeprefix(".").partition(SUFFIX)[0]
            with one_at_a_time(_lock_of(self._entries / f"{name}{SUFFIX}"), waits=False) as is_left:
                if is_left:
                    partial.unlink(missing_ok=True)
        for lock in self._entries.glob("*.lock"):
            with one_at_a_time(lock, waits=False):
                pass  # letting go removes it

    def _fits(self, n_bytes: int) -> bool:
        if n_bytes + _LARGEST_HEADER_BYTES <= self.max_bytes:
            return True
        self._complain(f"{n_bytes:,} bytes are more than {BOUND_VARIABLE} allows ({self.max_bytes:,})")
        return False

    def _give_up(self, reason: str) -> None:
        """Keep nothing more in this process."""
        self._can_write = False
        self._complain(reason)

    def _complain(self, reason: str) -> None:
        if not self._has_complained:
            logger.warning("embeddings are kept in memory and shared with no other trial: %s", reason)
            self._has_complained = True


def default_cache() -> EmbeddingCache | None:
    """The cache that the environment names: one and the same within a process; None where it is switched off.

    Raises:
        UsageError: a variable makes no sense.
    """
    folder = kept_folder(FOLDER_VARIABLE, users_folder())
    return None if folder is None else _cache_at(folder, max_bytes=most_bytes(BOUND_VARIABLE, DEFAULT_BOUND_GB))


@cache
def _cache_at(folder: Path, *, max_bytes: int) -> EmbeddingCache:
    return EmbeddingCache(folder, max_bytes=max_bytes)


def _read_only(embeddings: View) -> View:
    embeddings.flags.writeable = False
    return embeddings


def _files(folder: Path, suffix: str) -> list[Entry]:
    """The one that was used last first."""
    found = []
    for path in folder.glob(f"*{suffix}"):
        with suppress(OSError):  # another process makes room
            stat = path.stat()
            found.append(Entry(path, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda entry: entry.used_s, reverse=True)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
