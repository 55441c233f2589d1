"""Images that stand in the sources more than once: with one label they count once, with two they are not believed."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, cut
from trainables.data.rows import Rows
from trainables.data.source import Source
from trainables.data.table import SPLITS

OnBad = Literal["fail", "skip"]

NOISE_SHARE = 0.01
"""Up to this share of a source's rows, labels that contradict each other are taken for label noise."""

NOISE_MIN_ROWS = 1000
"""Below this many rows they are taken for a mistake."""


def group_equal(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[n] group numbers, equal where the rows of `digests` [n, bytes] are."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(digest.tobytes(), len(numbers)) for digest in digests], np.int64)


def drop_contradictions(
    rows: Rows,
    groups: NDArray[np.int64],
    *,
    classes: Sequence[str],
    sources: Sequence[Source],
    on_bad: OnBad,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Which faces to keep: not those whose image has two labels, as nobody can say which is right.

    Args:
        groups: [n], equal for equal images.

    Returns:
        [n], false for all copies of such an image.

    Raises:
        DataError: they are too many to be noise, and `on_bad` is fail; the first pair is named.
    """
    concerned = _has_two_labels(rows.expression, groups)
    if not concerned.any():
        return ~concerned
    for index, source in enumerate(sources):
        inside = rows.source == index
        n, n_bad = int(inside.sum()), int((concerned & inside).sum())
        is_noise = len(rows) >= NOISE_MIN_ROWS and n_bad <= NOISE_SHARE * n
        if n_bad and not is_noise and on_bad == "fail":
            pair = _first_pair(rows, groups, concerned & inside, classes)
            raise DataError(
                f"labels of one image must agree, got {pair}: {source.path}, {n_bad:,} of {n:,} rows; "
                "--on-bad skip leaves them out"
            )
    counts = [f"{int((concerned & (rows.split == i)).sum()):,} in {name}" for i, name in enumerate(SPLITS)]
    what = ", ".join(count for count in counts if not count.startswith("0 "))
    notes.append(f"warning: {int(concerned.sum()):,} faces left out, as the same image has two labels ({what})")
    return ~concerned


def drop_duplicates(rows: Rows, groups: NDArray[np.int64], *, notes: list[str]) -> NDArray[np.bool_]:
    """Which faces to keep: one of each image. Test keeps it before valid before train, a labelled copy before others.

    Returns:
        [n], true for the copy that stays.
    """
    n = len(rows)
    order = np.lexsort((np.arange(n), rows.expression < 0, -rows.split))
    _, first, inverse = np.unique(groups[order], return_index=True, return_inverse=True)
    keeper = np.empty(n, np.int64)
    keeper[order] = order[first][inverse]
    dropped: NDArray[np.bool_] = keeper != np.arange(n)
    for lost, name in enumerate(SPLITS):
        for kept, keeping in enumerate(SPLITS):
            count = int((dropped & (rows.split == lost) & (rows.split[keeper] == kept)).sum())
            if count:
                where = "more than once" if lost == kept else f"in {keeping} too"
                notes.append(f"{name}: {count:,} exact duplicates left out, images that stand {where}")
    return ~dropped


def make_ids_unique(sample_ids: NDArray[np.object_], *, notes: list[str]) -> NDArray[np.object_]:
    """Ids with `#2`, `#3` behind those that other faces bear already."""
    unique, taken = sample_ids.copy(), set(sample_ids)
    seen: set[str] = set()
    changed = 0
    for row, sample_id in enumerate(sample_ids):
        if sample_id in seen:
            changed += 1
            number = 2
            while f"{sample_id}#{number}" in taken:
                number += 1
            unique[row] = f"{sample_id}#{number}"
            taken.add(unique[row])
        seen.add(sample_id)
    if changed:
        notes.append(f"{changed:,} faces had the id of another image; #2, #3, ... was put behind it")
    return unique


def _has_two_labels(expression: NDArray[np.int8], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    n_groups = int(groups.max(initial=-1)) + 1
    low, high = np.full(n_groups, 127), np.full(n_groups, -1)
    known = expression >= 0
    np.minimum.at(low, groups[known], expression[known])
    np.maximum.at(high, groups[known], expression[known])
    return np.asarray(high > low)[groups]


def _first_pair(rows: Rows, groups: NDArray[np.int64], concerned: NDArray[np.bool_], classes: Sequence[str]) -> str:
    first = int(np.flatnonzero(concerned)[0])
    others = (groups == groups[first]) & (rows.expression >= 0) & (rows.expression != rows.expression[first])
    second = int(np.flatnonzero(others)[0])
    names = [(classes[rows.expression[row]], rows.sample_ids[row]) for row in (first, second)]
    return " and ".join(f"{label!r} for {cut(sample_id)}" for label, sample_id in names)
