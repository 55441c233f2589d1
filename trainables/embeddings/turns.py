"""One process at a time does what all would do. The lock is the kernel's: it vanishes with its process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def one_at_a_time(path: Path, *, waits: bool = True) -> Iterator[bool]:
    """Hold the lock of a file, which exists only as long as somebody holds it or waits for it.

    Args:
        path: of the lock's file, in a folder that is there.
        waits: until whoever holds it lets go; else it is given up at once.

    Yields:
        Whether it is held; never where the file system has no locks or the folder can't be written to.
    """
    handle = _take(path, waits=waits)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):  # before letting go, so that nobody waits for a file that is not there any more
                path.unlink()
            os.close(handle)


def _take(path: Path, *, waits: bool) -> int | None:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            if _is_at(path, handle):
                return handle
        except BlockingIOError:  # held by another
            os.close(handle)
            return None
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
