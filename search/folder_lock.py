"""One command at a time works in a search's folder. The lock is the kernel's: it vanishes with its process."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from search.folder import LOCK_FILE, MANIFEST_FILE, SearchFolder
from spaces.errors import SearchError
from trainables.outputs import sweep_leftovers


@contextmanager
def only_driver(folder: SearchFolder) -> Iterator[None]:
    """Hold the folder of a search; one that was not begun in the end leaves no folder behind.

    Raises:
        SearchError: another process holds it; it is named.
    """
    path = folder.path / LOCK_FILE
    is_first = not folder.path.parent.exists()
    folder.path.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        _take(file, folder)
        sweep_leftovers(folder.path, everywhere=True)
        try:
            yield
        finally:
            if not (folder.path / MANIFEST_FILE).exists():
                path.unlink(missing_ok=True)
                with suppress(OSError):  # something else lies there
                    folder.path.rmdir()
                    if is_first:
                        folder.path.parent.rmdir()


def _take(file: TextIO, folder: SearchFolder) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise SearchError(
            f"search {folder.name!r} must be worked on by one command at a time, got {holder}: {folder.path}; "
            "wait for it or stop it with Ctrl-C"
        ) from None
    except OSError:
        return  # a file system without locks: one command at a time is then the user's care
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
