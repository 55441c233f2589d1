"""Whether a search can run on other machines: the same code and libraries there, the same folders in sight.

`look_around` runs on each of them, `compare` with the driver. A difference is told in one sentence, before anything is
written.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spaces.errors import SearchError
from trainables.environment import difference, read_environment
from trainables.shared_clock import clock_lead_s

MARK_FILE = "mark"
TABLE_FILE = "dataset.json"
SHOWN_SKEW_S = 5.0

_ADVICE = {
    "code": "; update the checkout there, or start Ray where none is installed",
    "libraries": "; set every node up with the same constraints.txt",
    "storage": "; mount it at the same place on every node, or name another with --storage",
    "table": "; put it where every node has it, at the same path",
}


def look_around(marked: str, table: str | None) -> dict[str, Any]:
    """What a node has. Runs there; loads nothing heavy.

    Args:
        marked: a folder in the search's, with a file that the driver has written.
        table: folder of the face table; None where that needs no look.

    Returns:
        `environment`: versions. `mark`: what the driver wrote, None where it is not seen. `may_write`: whether the
        folder can be written. `table`: its hash, empty where it can't be read. `clock_lead_s`: ahead of the storage.
    """
    return {
        "environment": dict(read_environment()),
        "mark": _read(Path(marked, MARK_FILE)),
        "may_write": os.access(marked, os.W_OK | os.X_OK),
        "table": "" if table is None else _table_hash(Path(table)),
        "clock_lead_s": clock_lead_s(Path(marked)),
    }


def compare(
    seen: Mapping[str, Any], *, node: str, mark: str, folder: Path, table: Path | None, table_hash: str
) -> None:
    """Refuse a node that has something else than the driver.

    Args:
        seen: by `look_around`.
        node: its name.
        mark: what the driver wrote.
        folder: of the search.
        table: the face table; None where that was not looked at.
        table_hash: of its content.

    Raises:
        SearchError: what differs is named, with both values.
    """
    if found := difference(seen["environment"], read_environment()):
        name, theirs, ours = found
        advice = _ADVICE["code" if name == "code" else "libraries"]
        what = "code of spaces and trainables" if name == "code" else name
        raise SearchError(f"{what} must be the same on every node, got {theirs} there and {ours} here: {node}{advice}")
    if seen["mark"] != mark:
        got = "none" if seen["mark"] is None else "another"
        raise SearchError(
            f"storage must be the same folder on every node, got {got} there: {node}, {folder}{_ADVICE['storage']}"
        )
    if not seen["may_write"]:
        raise SearchError(
            f"storage must be writable on every node, got one that is not: {node}, {folder}{_ADVICE['storage']}"
        )
    if table is not None and seen["table"] != table_hash:
        got = f"{seen['table'][:12]} there and {table_hash[:12]} here" if seen["table"] else "none there"
        raise SearchError(f"face table must be the same on every node, got {got}: {node}, {table}{_ADVICE['table']}")


def clock_sentence(seen: Mapping[str, Any], *, node: str, lead_s: float) -> str | None:
    """What is to be told of a node's clock; None where it shows about the driver's time.

    Args:
        seen: by `look_around`.
        node: its name.
        lead_s: of the driver's clock, ahead of the storage's.
    """
    ahead_s = float(seen["clock_lead_s"]) - lead_s
    if abs(ahead_s) < SHOWN_SKEW_S:
        return None
    which = "ahead of" if ahead_s > 0 else "behind"
    return f"clock of node {node} is {abs(ahead_s):.0f} s {which} this machine's; deadlines there allow for it"


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None


def _table_hash(folder: Path) -> str:
    try:
        return str(json.loads((folder / TABLE_FILE).read_text(encoding="utf-8"))["content_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
