"""A search's disk, tried now and then: where it is full its workers wait for it, and nobody would hear of that."""

import time
from collections.abc import Callable

from search.folder import SearchFolder
from trainables.outputs import new_file

EVERY_S = 10.0
PROBE_BYTES = 2**20
"""What is written to see whether it can be: more than a record, less than a checkpoint."""


class DiskWatch:
    """Tries whether a search's folder can still be written to, and waits with the folder's patience where not.

    Args:
        folder: of the search.
        every_s: seconds between two tries; a call in between does nothing.
        n_bytes: that are written, and removed at once.
        clock: seconds from any start.
    """

    def __init__(
        self,
        folder: SearchFolder,
        *,
        every_s: float = EVERY_S,
        n_bytes: int = PROBE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._path = folder.path / "probe"
        self._every_s, self._n_bytes = every_s, n_bytes
        self._clock = clock
        self._next_s = clock() + every_s

    def look(self) -> None:
        """Try, if it is time to.

        Raises:
            OSError: the disk was full, or did not answer, for longer than the folder has patience.
        """
        if self._clock() < self._next_s:
            return
        self._folder.patience(self._write)
        self._next_s = self._clock() + self._every_s

    def _write(self) -> None:
        with new_file(self._path) as staging:
            staging.write_bytes(bytes(self._n_bytes))
        self._path.unlink()
