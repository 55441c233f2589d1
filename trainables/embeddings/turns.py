"""One process at a time does what all would do. The lock is the kernel's: it vanishes with its process."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.budget import check_time

LOOK_S = 0.2
"""How often who waits for no longer than a given time looks whether it is its turn."""


@contextmanager
def one_at_a_time(path: Path, *, waits: bool = True, until_s: float | None = None) -> Iterator[bool]:
    """Hold the lock of a file, which exists only as long as somebody holds it or waits for it.

    Args:
        path: of the lock's file, in a folder that is there.
        waits: until whoever holds it lets go; else it is given up at once.
        until_s: Unix time at which waiting is given up; None for no end.

    Yields:
        Whether it is held; never where the file system has no locks or the folder can't be written to.

    Raises:
        OutOfTime: the time to wait is over.
    """
    handle = _take(path, waits=waits, until_s=until_s)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):  # before letting go, so that nobody waits for a file that is not there any more
                path.unlink()
            os.close(handle)


def _take(path: Path, *, waits: bool, until_s: float | None) -> int | None:
    looks = waits and until_s is not None  # flock itself knows no limit
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits and not looks else fcntl.LOCK_NB))
            if _is_at(path, handle):
                return handle
        except BlockingIOError:  # held by another
            os.close(handle)
            if not looks:
                return None
            check_time(until_s)
            time.sleep(LOOK_S)
            continue
        except OSError:  # a file system without locks
            os.close(handle)
            with suppress(OSError):
                path.unlink()
            return None
        except BaseException:  # Ctrl-C while waiting
            os.close(handle)
            raise
        os.close(handle)  # its holder has removed the file meanwhile; another may have made it anew


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
