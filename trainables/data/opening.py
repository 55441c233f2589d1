"""Open the face table that a user names: a folder, where it is; a URI, as a copy on this machine's disk.

Workers also copy a folder that another machine has, since every epoch of every trial reads all of it.
"""

import logging
from functools import cache
from pathlib import Path

from spaces.errors import OutputError, UsageError
from trainables.data.mounts import is_on_network
from trainables.data.stores import StoreError, find_store, is_uri
from trainables.data.table import FaceTable, open_table, shared_table
from trainables.data.table_copies import FOLDER_VARIABLE, Report, TableCopies, check_same, default_copies

logger = logging.getLogger(__name__)


def absolute_data(data: str | Path) -> str:
    """What a user names, as it is understood in any folder: a URI as it is."""
    return str(data) if is_uri(str(data)) else str(Path(data).absolute())


def open_data(data: str | Path, *, content_hash: str = "", report: Report | None = None) -> FaceTable:
    """Open a face table; one that a URI names is copied to this machine first, unless it has been.

    Args:
        data: a folder, or `s3://BUCKET/PREFIX` and the like.
        content_hash: that a copy must have; one that has it is taken without asking its store. Empty for any.
        report: told the share that is copied.

    Raises:
        DataError: as for `open_table`; or the URI makes no sense, or its store does not answer.
        OutputError: the copy finds no room.
        UsageError: copies are switched off and a URI is given; or a variable makes no sense.
    """
    named = str(data)
    if not is_uri(named):
        return open_table(Path(data))
    table = open_table(_copy_of(named, _copies_for(named), content_hash=content_hash, report=report))
    table.origin = named
    return table


def shared_data(data: str, *, content_hash: str = "", until_s: float | None = None) -> FaceTable:
    """Open a face table for trials in a row; from a copy where a URI or a folder of another machine is named.

    Where a folder of another machine can't be copied, it is mapped as it is.

    Args:
        data: as `FaceTable.origin` has it.
        content_hash: that the table must have; a copy that has it is taken without asking its store. Empty for any.
        until_s: Unix time at which copying is given up.

    Raises:
        DataError: as for `open_data`, or the table is another one by now.
        OutputError, UsageError: as for `open_data`.
        OutOfTime: the time is up.
    """
    table = shared_table(_nearest(data, content_hash=content_hash, until_s=until_s))
    check_same(table.info, content_hash, where=data)
    return table


def _nearest(data: str, *, content_hash: str, until_s: float | None) -> Path:
    """The folder to map."""
    if is_uri(data):
        copies = _copies_for(data)
        return _copy_of(data, copies, content_hash=content_hash, until_s=until_s)
    folder = Path(data)
    copies_or_none = default_copies()
    if copies_or_none is None or not _is_worth_copying(folder, copies_or_none.folder):
        return folder
    try:
        return _copy_of(data, copies_or_none, content_hash=content_hash, until_s=until_s)
    except (OutputError, StoreError) as error:
        logger.warning("face table is mapped over the network, and trials read it slowly: %s", error)
        return folder


def _copy_of(
    data: str, copies: TableCopies, *, content_hash: str, until_s: float | None = None, report: Report | None = None
) -> Path:
    found = copies.find(content_hash) if content_hash else None
    return found or copies.fetch(find_store(data), content_hash=content_hash, until_s=until_s, report=report)


def _copies_for(uri: str) -> TableCopies:
    copies = default_copies()
    if copies is None:
        raise UsageError(f"{FOLDER_VARIABLE} must name a folder where a face table is a URI, got none: {uri}")
    return copies


@cache
def _is_worth_copying(folder: Path, copies: Path) -> bool:
    """Whether another machine has the table, and this one the copies."""
    return is_on_network(folder) and not is_on_network(copies)
