"""An output folder that takes an earlier one's place: the old one is whole until the new one is."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from spaces.errors import OutputError
from trainables.outputs import new_folder


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
    complete = place.with_name(f".{place.name}.{os.getpid()}.next")
    with new_folder(complete) as staging:
        yield staging
    try:
        _put_in_place(complete, place)
    finally:
        shutil.rmtree(complete, ignore_errors=True)


def _put_in_place(complete: Path, place: Path) -> None:
    """Two renames; where the second fails, the first is taken back."""
    aside = place.with_name(f".{place.name}.{os.getpid()}.before")
    try:
        place.rename(aside)
        try:
            complete.rename(place)
        except BaseException:
            aside.rename(place)
            raise
    except OSError as error:
        kept = f"; what was there stands in {aside} now" if aside.exists() else ""
        raise OutputError(f"output folder could not be replaced, {error.strerror}: {place}{kept}") from error
    shutil.rmtree(aside, ignore_errors=True)
