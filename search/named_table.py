"""The face table that a user names, opened where people watch: what takes longer than a moment shows how far it is."""

import time
from collections.abc import Callable
from pathlib import Path

from search.progress import Told, progress_bars
from trainables.data.opening import open_data
from trainables.data.stores import is_uri
from trainables.data.table import FaceTable

MOMENT_S = 2.0


def open_named_table(data: str | Path, *, content_hash: str = "") -> FaceTable:
    """Open the table in a folder, or behind a URI, of which a copy is made where this machine has none.

    Args:
        data: the folder, or the URI.
        content_hash: that a copy must have; one that has it is taken without asking its store. Empty for any.

    Raises:
        DataError: there is no face table, the URI makes no sense, or its store does not answer.
        OutputError: the copy finds no room.
        UsageError: copies are switched off and a URI is given.
    """
    if not is_uri(str(data)):
        return open_data(data)
    with progress_bars() as begin:
        bar = late_bar(begin, f"copying {str(data).partition('?')[0]}")
        return open_data(data, content_hash=content_hash, report=bar)


def is_table(data: str | Path) -> bool:
    """Whether a name is of a face table, and not of images, Parquet or a CSV."""
    return is_uri(str(data)) or (Path(data) / "dataset.json").is_file()


def late_bar(begin: Told, step: str, *, clock: Callable[[], float] = time.monotonic) -> Callable[[float], None]:
    """A bar that is begun only when its work has taken a moment.

    Args:
        begin: from a step in words to what its share done is told to.
        step: in words.
        clock: seconds, rising.
    """
    started_s = clock()
    bars: list[Callable[[float], None]] = []

    def tell(share: float) -> None:
        if not bars and clock() - started_s > MOMENT_S:
            bars.append(begin(step))
        for bar in bars:
            bar(share)

    return tell
