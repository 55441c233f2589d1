"""`affectune cache`: embeddings and copies of tables that searches on this machine share; how to be rid of them."""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from search.commands.options import not_negative

if TYPE_CHECKING:
    from trainables.data.table_copies import TableCopies, TableCopy
    from trainables.embeddings.cache import EmbeddingCache, Entry

_ABOUT = """\
Trials that train no backbone take its embeddings from a folder: AFFECTUNE_CACHE, or else affectune/ in XDG_CACHE_HOME
or ~/.cache; AFFECTUNE_CACHE=off keeps none. It takes up to AFFECTUNE_CACHE_GB gigabytes (20), then what was not used
for longest goes. Face tables of an object store or a network disk are copied beside it: AFFECTUNE_TABLES,
AFFECTUNE_TABLES_GB (100).
"""

DAY_S = 86400.0


def register(subparsers: Any) -> None:
    """Add `cache` with its commands."""
    cache = subparsers.add_parser(
        "cache", help="embeddings and copies of tables that trials share: show, empty", description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = cache.add_subparsers(title="commands", metavar="COMMAND", dest="cache_command")
    show = commands.add_parser("show", help="where they are, of what, how large and when last used")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=run_show)
    empty = commands.add_parser("empty", help="remove them, and GPU profiles; trials go on, tables in use stay")
    empty.add_argument(
        "--older-than", metavar="DAYS", type=not_negative, help="only what was not used for so many days"
    )
    empty.add_argument("--json", action="store_true", help="print one JSON document")
    empty.set_defaults(run=run_empty)


def run_show(args: argparse.Namespace) -> int:
    """A line an entry, the one that was used last first, and the sum; likewise for copies of tables."""
    from trainables.data.table_copies import default_copies
    from trainables.embeddings.cache import default_cache

    cache, copies = default_cache(), default_copies()
    rows = [] if cache is None else [_row_of(entry) for entry in cache.entries()]
    n_bytes = sum(row["bytes"] for row in rows)
    if args.json:
        where = {"folder": None, "max_bytes": 0} if cache is None else _place_of(cache)
        print(json.dumps({**where, "bytes": n_bytes, "entries": rows, "tables": _tables_of(copies)}, indent=2))
        return 0
    if cache is None:
        print("no embeddings are kept: AFFECTUNE_CACHE is off")
    else:
        if rows:
            _print_rows(rows)
        print(f"{cache.folder}: {_entries(len(rows))}, {_size(n_bytes)} of {_size(cache.max_bytes)}")
    if copies is not None and (found := copies.entries()):
        _print_columns([("table", "copied from", "size", "last used"), *map(_cells_of_copy, found)])
        n_bytes = sum(copy.n_bytes for copy in found)
        print(f"{copies.folder}: {_tables(len(found))}, {_size(n_bytes)} of {_size(copies.max_bytes)}")
    return 0


def run_empty(args: argparse.Namespace) -> int:
    """Remove entries, profiles and copies of tables, and say how much that was."""
    from trainables.data.table_copies import default_copies
    from trainables.embeddings.cache import PROFILES, default_cache

    cache, copies = default_cache(), default_copies()
    unused_s = None if args.older_than is None else args.older_than * DAY_S
    removed = [] if cache is None else cache.empty(unused_s=unused_s)
    n_bytes = sum(entry.n_bytes for entry in removed)
    n_profiles = sum(entry.path.parent.name == PROFILES for entry in removed)
    n_entries = len(removed) - n_profiles
    tables, n_in_use = _remove_copies(copies, unused_s=unused_s)
    n_table_bytes = sum(copy.n_bytes for copy in tables)
    if args.json:
        told = {"removed": len(tables), "in_use": n_in_use, "bytes": n_table_bytes}
        print(json.dumps({"removed": n_entries, "profiles": n_profiles, "bytes": n_bytes, "tables": told}))
        return 0
    if cache is None:
        print("no embeddings are kept: AFFECTUNE_CACHE is off")
    else:
        profiles = f" and {n_profiles} GPU {'profile' if n_profiles == 1 else 'profiles'}" if n_profiles else ""
        print(f"{cache.folder}: {_entries(n_entries)}{profiles} removed, {_size(n_bytes)}")
    if copies is not None and (tables or n_in_use):
        stay = f"; {n_in_use} in use {'stays' if n_in_use == 1 else 'stay'}" if n_in_use else ""
        print(f"{copies.folder}: {_tables(len(tables))} removed, {_size(n_table_bytes)}{stay}")
    return 0


def _remove_copies(copies: "TableCopies | None", *, unused_s: float | None) -> tuple[list["TableCopy"], int]:
    """Those that were removed, and how many stay as they are in use."""
    before_s = time.time() - (unused_s or 0.0)
    old = [] if copies is None else [copy for copy in copies.entries() if copy.used_s <= before_s]
    removed = [copy for copy in old if copies is not None and copies.remove(copy)]
    return removed, len(old) - len(removed)


def _tables_of(copies: "TableCopies | None") -> dict[str, Any]:
    if copies is None:
        return {"folder": None, "max_bytes": 0, "bytes": 0, "copies": []}
    found = copies.entries()
    rows = [
        {
            "table": copy.key,
            "is_whole": copy.is_whole,
            "source": copy.source,
            "bytes": copy.n_bytes,
            "used_s": copy.used_s,
        }
        for copy in found
    ]
    n_bytes = sum(copy.n_bytes for copy in found)
    return {"folder": str(copies.folder), "max_bytes": copies.max_bytes, "bytes": n_bytes, "copies": rows}


def _cells_of_copy(copy: "TableCopy") -> tuple[str, ...]:
    begun = "" if copy.is_whole else " (begun)"
    return f"{copy.key[:12]}{begun}", copy.source or "(not known)", _size(copy.n_bytes), _moment(copy.used_s)


def _place_of(cache: "EmbeddingCache") -> dict[str, Any]:
    return {"folder": str(cache.folder), "max_bytes": cache.max_bytes}


def _row_of(entry: "Entry") -> dict[str, Any]:
    """An entry as JSON values; what a broken file can't say is null."""
    header = entry.header()
    key = {} if header is None else json.loads(header.key)
    said = {name: key.get(name) for name in ("backbone", "image_px", "table", "split", "view", "rows", "width")}
    dtype = None if header is None else header.dtype
    return {**said, "dtype": dtype, "bytes": entry.n_bytes, "used_s": entry.used_s, "file": str(entry.path)}


def _print_rows(rows: list[dict[str, Any]]) -> None:
    titles = ("backbone", "px", "table", "split", "view", "faces", "width", "size", "last used")
    _print_columns([titles, *(_cells_of(row) for row in rows)])


def _print_columns(lines: list[tuple[str, ...]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    used, size = _moment(row["used_s"]), _size(row["bytes"])
    if row["dtype"] is None:
        return ("(broken)", *["-"] * 6, size, used)
    faces, width = f"{row['rows']:,}", str(row["width"])
    return row["backbone"], str(row["image_px"]), row["table"][:12], row["split"], row["view"], faces, width, size, used


def _moment(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


def _tables(n: int) -> str:
    return f"{n} {'copy of a table' if n == 1 else 'copies of tables'}"


def _entries(n: int) -> str:
    return f"{n} {'entry' if n == 1 else 'entries'}"


def _size(n_bytes: int) -> str:
    """`25.6 MB`, in powers of ten as the bound is."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
