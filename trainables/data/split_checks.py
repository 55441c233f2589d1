"""Whether a mapped split holds what a face table's can: looked at when it is opened, and as columns are asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spaces.errors import DataError
from trainables.data.labels import LABEL_COLUMNS, NOT_LABELLED
from trainables.data.split_file import column_types

MAY_BE_NULL = ("subject",)
"""Columns in which a row may lack a value; others have words of their own for what is not known."""


def check_columns(batch: Any, *, image_bytes: int, path: Path) -> None:
    """See that a split's columns are there and of their types. Reads none of them.

    Raises:
        DataError: one is not.
    """
    present = {field.name: field.type for field in batch.schema}
    for name, wanted in column_types(image_bytes).items():
        got = present.get(name, "none" if name not in LABEL_COLUMNS else wanted)
        if got != wanted:
            raise DataError(f"column {name!r} must be of type {wanted}, got {got}: {path}; ingest again")
        if name in present and name not in MAY_BE_NULL and batch.column(name).null_count:
            got = f"none in {batch.column(name).null_count}"
            raise DataError(f"column {name!r} must have a value in each row, got {got}: {path}; ingest again")


def check_expression(values: NDArray[np.int8], class_counts: Sequence[int], *, split: str, path: Path) -> None:
    """See that a split's expressions are of the classes, and as many of each as the table says.

    Raises:
        DataError: they are not.
    """
    low, high = int(values.min(initial=NOT_LABELLED)), int(values.max(initial=NOT_LABELLED))
    if low < NOT_LABELLED or high >= len(class_counts):
        got = low if low < NOT_LABELLED else high
        raise DataError(f"expression must be within -1..{len(class_counts) - 1}, got {got}: {path}; ingest again")
    counts = np.bincount(values[values >= 0], minlength=len(class_counts)).tolist()
    if counts != list(class_counts):
        rule = f"{split} must have {list(class_counts)} faces of its classes, as dataset.json says"
        raise DataError(f"{rule}, got {counts}: {path}; ingest again")


def check_label(name: str, values: NDArray[Any], *, path: Path) -> None:
    """See that an optional label is in its range. Landmarks outside the image are refused where they are needed.

    Raises:
        DataError: it is not.
    """
    label = LABEL_COLUMNS[name]
    if name == "landmarks":
        return
    outside = (values < label.low) | (values > label.high)  # NaN, not known, is neither
    if outside.any():
        rule = f"{name} must be within {label.low:g}..{label.high:g}"
        raise DataError(f"{rule}, got {values[outside][0]:g}: {path}; ingest again")


def read_texts(column: Any, *, path: Path) -> list[Any]:
    """The texts of a mapped column, None where there is none.

    Raises:
        DataError: they are none; where they begin and end was damaged, or they are no UTF-8.
    """
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        raise DataError(f"split must hold whole texts, got others ({error}): {path}; ingest again") from error
    return list(column.to_pylist())
