"""What a `dataset.json` says of a face table, and whether it can be true."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spaces.errors import DataError, shown
from trainables.data.classes import MAX_CLASSES, MAX_NAME, class_key, is_name

MAX_PX = 4096
"""Side of images that a table may have."""

MAX_ROWS = 1 << 40
"""Faces that a split may claim."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a face table holds; the content of `dataset.json`.

    `mean` and `std` are per channel, of the training images scaled to 0..1. `rows`, `subjects` (how many people) and
    `class_counts` (in the order of `classes`) are per split; `labels` counts, per split, the rows on which an
    optional label is known. `content_hash` covers ids, subjects, labels and pixels of all splits.
    """

    classes: tuple[str, ...]
    image_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rows: dict[str, int]
    class_counts: dict[str, list[int]]
    content_hash: str
    sources: dict[str, str]
    notes: list[str]
    subjects: dict[str, int] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


def check_info(info: DatasetInfo, splits: Sequence[str], *, file: str) -> None:
    """See that a description can be one of a face table.

    Args:
        splits: names that a table's splits have.
        file: how messages name where it comes from.

    Raises:
        DataError: a number is out of its range, or two do not fit together.
    """
    problem = _problem_of_classes(info.classes) or _problem_of_images(info) or _problem_of_counts(info, splits) or ""
    if problem:
        raise DataError(f"{problem}: {file}; ingest again")


def _problem_of_classes(classes: Sequence[str]) -> str:
    if not 1 <= len(classes) <= MAX_CLASSES:
        return f"classes must be between 1 and {MAX_CLASSES}, got {len(classes)}"
    for name in classes:
        if not is_name(name):
            return f"name of a class must be printable and at most {MAX_NAME} characters, got {shown(name)}"
    if len({class_key(name) for name in classes}) < len(classes):
        return f"classes must differ, got {shown(list(classes))}"
    return ""


def _problem_of_images(info: DatasetInfo) -> str:
    if not 1 <= info.image_px <= MAX_PX:
        return f"image_px must be within 1..{MAX_PX}, got {info.image_px}"
    if info.channels not in (1, 3):
        return f"channels must be 1 or 3, got {info.channels}"
    for name, numbers in (("mean", info.mean), ("std", info.std)):
        if len(numbers) != info.channels or not all(0 <= number <= 1 and math.isfinite(number) for number in numbers):
            return f"{name} must be {info.channels} numbers within 0..1, got {shown(list(numbers))}"
    return ""


def _problem_of_counts(info: DatasetInfo, splits: Sequence[str]) -> str:
    for name, counts in (("rows", info.rows), ("class_counts", info.class_counts)):
        if sorted(counts) != sorted(splits):
            return f"{name} must be told for {', '.join(splits)}, got {shown(sorted(counts))}"
    for split, n_rows in info.rows.items():
        if not 0 <= n_rows <= MAX_ROWS:
            return f"rows of {split} must be within 0..2^40, got {n_rows}"
        counted = info.class_counts[split]
        if len(counted) != len(info.classes) or min(counted) < 0 or sum(counted) > n_rows:
            rule = f"class_counts of {split} must be {len(info.classes)} counts of no more than {n_rows} faces in all"
            return f"{rule}, got {shown(counted)}"
    return _problem_of_known(info.subjects, info) or next(
        (problem for known in info.labels.values() if (problem := _problem_of_known(known, info))), ""
    )


def _problem_of_known(counts: Mapping[str, int], info: DatasetInfo) -> str:
    most = max(info.rows.values())
    bad = next((n for n in counts.values() if not 0 <= n <= most), None)
    return "" if bad is None else f"counts of subjects and labels must be within 0..{most}, got {bad}"
