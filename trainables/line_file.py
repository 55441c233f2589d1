"""A file of lines that is only appended to. A line that a full disk cut is completed before another one begins."""

import os
from pathlib import Path

from trainables.outputs import disk_error


class LineFile:
    """Lines for a file, and those that it could not take yet. A last line that a killed process tore is ended.

    Args:
        path: of the file; made if it is not there.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._rest = b"\n" if _is_torn(path) else b""

    def hold(self, lines: str) -> None:
        """Take whole lines, for the next `flush`."""
        self._rest += lines.encode()

    def flush(self) -> None:
        """Hand over all lines to the system; what it did not take stays for the next time.

        Raises:
            OutputError: the disk is full, or does not answer.
        """
        try:
            while self._rest:
                self._rest = self._rest[self._file.write(self._rest) :]
        except OSError as error:
            raise disk_error(error.errno or 0, f"could not append to {self._path}") from error

    def clear(self) -> None:
        """Begin anew, with an empty file."""
        self._rest = b""
        self._file.truncate(0)

    def close(self) -> None:
        """Let go of the file; lines that it could not take are lost."""
        self._file.close()


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
