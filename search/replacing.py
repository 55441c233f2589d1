"""An output folder that takes an earlier one's place: the old one is whole until the new one is."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spaces.errors import OutputError
from trainables.outputs import new_folder, staging_folder

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of renameat2(2)."""


@contextmanager
def replaced_folder(out: Path, *, is_ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """A folder to fill, which becomes `out` when the block ends well, in place of an earlier one that is there.

    Whatever goes wrong before that, the earlier one stays as it was.

    Args:
        out: new, empty, or an earlier output of ours.
        is_ours: whether a folder is one that may be replaced.
        what: such an output is, for the error.

    Raises:
        OutputError: `out` holds something else, can't be written, or the disk is full.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        with new_folder(out) as staging:
            yield staging
        return
    if not is_ours(out):
        raise OutputError(f"output folder must be new, empty or {what}, got {out}; choose another or remove it")
    place = out.resolve()  # a link to the folder stays one
    with staging_folder(place) as staging:
        yield staging
        try:
            exchange(staging, place)
        except OSError as error:
            raise OutputError(f"output folder could not be replaced, {error.strerror}: {place}") from error


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places in one step, so that no kill can fall between.

    Where the system can't (it is no Linux, or the file system is NFS), in three, the first of which is taken back where
    the second fails.

    Raises:
        OSError: they stand as before.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and not rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        return
    aside = other.with_name(f".{other.name}.{os.getpid()}.before")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)
