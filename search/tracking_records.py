"""What a tracking server may be told: names and values within MLflow's rules."""

import json
import math
import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from trainables.data.table import FaceTable

MAX_NAME = 250
MAX_PARAM = 6000
MAX_TAG = 5000
MAX_METRICS_PER_BATCH = 1000
MAX_TEXTS_PER_BATCH = 100

_FOREIGN = re.compile(r"[^/\w.\- ]")
Item = TypeVar("Item")


def record_name(name: str) -> str:
    """`name` with the characters MLflow refuses replaced: words, `_ - .`, spaces and `/` between parts stay."""
    parts = _FOREIGN.sub("_", name).split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)[:MAX_NAME]


def param_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow shows them: None is `none`, truth is `true` or `false`, a list is written as JSON."""
    return {record_name(name): _shorten(_param_text(value), MAX_PARAM) for name, value in params.items()}


def tag_texts(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as text, cut where MLflow would refuse them."""
    return {record_name(name): _shorten(str(value), MAX_TAG) for name, value in tags.items()}


def split_metrics(metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Finite numbers by MLflow's names, and the texts of the numbers that are not finite.

    Anything that is no number (a word, a truth value, None) is left out. Two names that become one keep both values:
    the later gets a number.
    """
    finite: dict[str, float] = {}
    strange: dict[str, str] = {}
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            continue
        number = float(value)
        if math.isfinite(number):
            finite[_unused(record_name(name), finite)] = number
        else:
            strange[record_name(name)] = str(number)
    return finite, strange


def batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Successive lists of at most `size` items."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def describe_table(table: "FaceTable") -> dict[str, str]:
    """A face table as MLflow's runs name what they worked on."""
    info = table.info
    faces = {"classes": info.classes, "rows": info.rows, "image_px": info.image_px, "channels": info.channels}
    return {
        "name": table.origin.rstrip("/").rpartition("/")[2] or "faces",
        "digest": info.content_hash[:8],
        "source_type": "local" if "://" not in table.origin else "external",
        "source": json.dumps({"uri": table.origin}),
        "profile": json.dumps(faces),
    }


def _param_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, (list, tuple)) else str(value)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _unused(name: str, taken: Mapping[str, float]) -> str:
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name[: MAX_NAME - 5]} {number}", number + 1
    return candidate
