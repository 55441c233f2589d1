"""`affectune cache`: the embeddings that searches on this machine share, what they take, and how to be rid of them."""

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from search.commands.options import not_negative

if TYPE_CHECKING:
    from trainables.embeddings.cache import EmbeddingCache, Entry

_ABOUT = """\
Trials that train no backbone take its embeddings from a folder: AFFECTUNE_CACHE, or else affectune/ in XDG_CACHE_HOME
or ~/.cache; AFFECTUNE_CACHE=off keeps none. It takes up to AFFECTUNE_CACHE_GB gigabytes (20), then what was not used
for longest goes.
"""

DAY_S = 86400.0


def register(subparsers: Any) -> None:
    """Add `cache` with its commands."""
    cache = subparsers.add_parser(
        "cache", help="embeddings that trials share: show, empty", description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = cache.add_subparsers(title="commands", metavar="COMMAND", dest="cache_command")
    show = commands.add_parser("show", help="where they are, of what, how large and when last used")
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=run_show)
    empty = commands.add_parser("empty", help="remove them, and GPU profiles; trials that use them now go on")
    empty.add_argument(
        "--older-than", metavar="DAYS", type=not_negative, help="only what was not used for so many days"
    )
    empty.add_argument("--json", action="store_true", help="print one JSON document")
    empty.set_defaults(run=run_empty)


def run_show(args: argparse.Namespace) -> int:
    """A line an entry, the one that was used last first, and the sum."""
    from trainables.embeddings.cache import default_cache

    cache = default_cache()
    rows = [] if cache is None else [_row_of(entry) for entry in cache.entries()]
    n_bytes = sum(row["bytes"] for row in rows)
    if args.json:
        where = {"folder": None, "max_bytes": 0} if cache is None else _place_of(cache)
        print(json.dumps({**where, "bytes": n_bytes, "entries": rows}, indent=2))
        return 0
    if cache is None:
        print("no embeddings are kept: AFFECTUNE_CACHE is off")
        return 0
    if rows:
        _print_rows(rows)
    bound = f"{_size(n_bytes)} of {_size(cache.max_bytes)}"
    print(f"{cache.folder}: {_entries(len(rows))}, {bound}")
    return 0


def run_empty(args: argparse.Namespace) -> int:
    """Remove entries and profiles, and say how much that was."""
    from trainables.embeddings.cache import PROFILES, default_cache

    cache = default_cache()
    unused_s = None if args.older_than is None else args.older_than * DAY_S
    removed = [] if cache is None else cache.empty(unused_s=unused_s)
    n_bytes = sum(entry.n_bytes for entry in removed)
    n_profiles = sum(entry.path.parent.name == PROFILES for entry in removed)
    n_entries = len(removed) - n_profiles
    if args.json:
        print(json.dumps({"removed": n_entries, "profiles": n_profiles, "bytes": n_bytes}))
    elif cache is None:
        print("no embeddings are kept: AFFECTUNE_CACHE is off")
    else:
        profiles = f" and {n_profiles} GPU {'profile' if n_profiles == 1 else 'profiles'}" if n_profiles else ""
        print(f"{cache.folder}: {_entries(n_entries)}{profiles} removed, {_size(n_bytes)}")
    return 0


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
    lines = [titles, *(_cells_of(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["used_s"]))
    size = _size(row["bytes"])
    if row["dtype"] is None:
        return ("(broken)", *["-"] * 6, size, used)
    faces, width = f"{row['rows']:,}", str(row["width"])
    return row["backbone"], str(row["image_px"]), row["table"][:12], row["split"], row["view"], faces, width, size, used


def _entries(n: int) -> str:
    return f"{n} {'entry' if n == 1 else 'entries'}"


def _size(n_bytes: int) -> str:
    """`25.6 MB`, in powers of ten as the bound is."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"
