"""The columns of a CSV or Parquet source: which is which, and what stands in them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spaces.errors import MOST_SHOWN, DataError, near_miss, shown
from trainables.data.labels import ACTION_UNITS, LABEL_COLUMNS, N_LANDMARKS

USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": (
        "image",
        "img",
        "image_bytes",
        "bytes",
        "jpg",
        "png",
        "path",
        "image_path",
        "img_path",
        "file_path",
        "filepath",
        "file",
        "file_name",
        "filename",
        "image_name",
        "subdirectory_filepath",
    ),
    "label": ("expression", "label", "emotion", "class", "target", "labels", "class_name"),
    "subject": ("subject", "subject_id", "person", "person_id", "identity", "identity_id"),
    "id": ("id", "sample_id", "image_id", "uid"),
    "split": ("split", "usage", "subset"),
}
"""Names that are recognised without a flag, in order of preference; case does not matter."""

SPLIT_WORDS: Mapping[str, str] = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "publictest": "valid",
    "test": "test", "testing": "test", "privatetest": "test",
}  # fmt: skip
"""What may stand in a split column, or name a folder of class folders."""

_ACTION_UNIT = re.compile(r"au[_ ]?0*(\d+)", re.IGNORECASE)
_MAX_LISTED = 40
"""Columns that a sentence lists, and characters of each."""
_SEPARATORS = re.compile(r"[\s,;]+")


_FLAT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_null,
    pa.types.is_decimal,
    pa.types.is_date,
)


@dataclass(frozen=True)
class ColumnNames:
    """Which column is which, where the usual names are not right."""

    image: str | None = None
    label: str | None = None
    subject: str | None = None
    id: str | None = None
    split: str | None = None

    def find(self, kind: str, present: Sequence[str], *, where: str) -> str | None:
        """The column that was named for this kind, else the first with a usual name; None where there is none.

        Raises:
            DataError: the column that was named is not there.
        """
        named: str | None = getattr(self, kind)
        if named is not None:
            if named not in present:
                raise DataError(f"column {named!r} must be in the source, got none: {where}{near_miss(named, present)}")
            return named
        by_key = {name.strip().casefold(): name for name in reversed(present)}
        return next((by_key[name] for name in USUAL_NAMES[kind] if name in by_key), None)

    def require(self, kind: str, present: Sequence[str], *, where: str) -> str:
        """As `find`, but there must be one.

        Raises:
            DataError: there is none; the columns there are, are listed.
        """
        name = self.find(kind, present, where=where)
        if name is None:
            there = ", ".join(each[:_MAX_LISTED] for each in sorted(present)[:_MAX_LISTED]) or "none"
            there += ", ..." if len(present) > _MAX_LISTED else ""
            raise DataError(f"source must have a column of {kind}s, got {there}: {where}; --{kind}-column names it")
        return name


def check_flat(column: Any, *, name: str, where: str) -> None:
    """Raise DataError where a column's cells are lists, structs or bytes, not texts or numbers."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not any(is_flat(kind) for is_flat in _FLAT_TYPES):
        raise DataError(f"column {name!r} must hold texts or numbers, got {str(column.type)[:MOST_SHOWN]}: {where}")


def to_texts(column: Any) -> list[str | None]:
    """Trimmed texts of a column; None where it is empty. Whole numbers lose their `.0`."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_floating(column.type):
        return [None if v is None or v != v else f"{v:g}" for v in column.to_pylist()]
    texts = pc.utf8_trim_whitespace(column.cast(pa.string())).to_pylist()
    return [text or None for text in texts]


def to_numbers(column: Any, *, name: str, where: str) -> NDArray[np.float64]:
    """[n] numbers of a column, NaN where it is empty.

    Raises:
        DataError: something else stands in it; the row is named.
    """
    check_flat(column, name=name, where=where)
    texts_column = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not texts_column and not pa.types.is_null(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        try:
            return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
        except pa.ArrowException as error:
            raise DataError(f"column {name!r} must hold numbers, got {column.type}: {where}") from error
    values = np.full(len(column), np.nan)
    for row, text in enumerate(to_texts(column.cast(pa.string()))):
        try:
            values[row] = np.nan if text is None else float(text)
        except ValueError:
            raise DataError(f"{name} must be a number, got {shown(text)}: row {row + 1} of {where}") from None
    return values


def to_number_rows(column: Any, *, width: int, name: str, where: str) -> NDArray[np.float64]:
    """[n, width] numbers of a column of lists, or of texts that list numbers; NaN where it is empty.

    Raises:
        DataError: a row has not that many numbers.
    """
    values = np.full((len(column), width), np.nan)
    for row, cell in enumerate(column.to_pylist()):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            continue
        try:
            numbers = _SEPARATORS.split(cell.strip("[]() \t")) if isinstance(cell, str) else list(np.ravel(cell))
            if len(numbers) == width:
                values[row] = [np.nan if number is None else float(number) for number in numbers]
                continue
        except (ValueError, TypeError, OverflowError):
            raise DataError(f"{name} must be numbers, got {str(cell)[:40]!r}: row {row + 1} of {where}") from None
        raise DataError(f"{name} must have {width} numbers, got {len(numbers)}: row {row + 1} of {where}")
    return values


def label_column_names(present: Sequence[str]) -> dict[str, list[str]]:
    """Optional label to the columns it stands in: one, or 12 for action units, or 136 for landmarks."""
    by_key = {name.strip().casefold(): name for name in reversed(present)}
    found = {name: [by_key[name]] for name in LABEL_COLUMNS if name in by_key}
    if "action_units" not in found and any(_action_unit(name) in ACTION_UNITS for name in present):
        found["action_units"] = [name for name in present if _action_unit(name) in ACTION_UNITS]
    points = [f"{axis}{point}" for point in range(N_LANDMARKS) for axis in "xy"]
    if "landmarks" not in found and all(point in by_key for point in points):
        found["landmarks"] = [by_key[point] for point in points]
    return found


def read_labels(table: Any, *, where: str) -> dict[str, NDArray[Any]]:
    """The optional labels of a source, [n] or [n, width]; landmarks as given, in pixels or in 0..1.

    Raises:
        DataError: a value is no number, or out of its range; the row is named.
    """
    labels: dict[str, NDArray[Any]] = {}
    for name, columns in label_column_names(table.column_names).items():
        values = _read_label(table, name, columns, where=where)
        if name != "landmarks":
            _check_range(values, name=name, where=where)
        labels[name] = _to_stored(values, name)
    return labels


def _read_label(table: Any, name: str, columns: list[str], *, where: str) -> NDArray[np.float64]:
    width = LABEL_COLUMNS[name].width
    if width == 1:
        return to_numbers(table.column(columns[0]), name=columns[0], where=where)
    if columns[0].strip().casefold() == name:
        return to_number_rows(table.column(columns[0]), width=width, name=columns[0], where=where)
    values = np.full((len(table), width), np.nan)
    for index, column in enumerate(columns):
        unit = _action_unit(column)
        place = index if name == "landmarks" or unit is None else ACTION_UNITS.index(unit)
        values[:, place] = to_numbers(table.column(column), name=column, where=where)
    return values


def _action_unit(column: str) -> int | None:
    match = _ACTION_UNIT.fullmatch(column.strip())
    return int(match[1]) if match else None


def _check_range(values: NDArray[np.float64], *, name: str, where: str) -> None:
    label = LABEL_COLUMNS[name]
    whole = label.dtype.kind == "i"
    bad = (values < label.low) | (values > label.high) | (whole & (np.floor(values) != values) & ~np.isnan(values))
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        kind = "a whole number " if whole else ""
        rule = f"{name} must be {kind}within {label.low:g}..{label.high:g}"
        raise DataError(f"{rule}, got {values[place]:g}: row {int(place[0]) + 1} of {where}")


def _to_stored(values: NDArray[np.float64], name: str) -> NDArray[Any]:
    label = LABEL_COLUMNS[name]
    if label.dtype.kind == "i":
        values = np.where(np.isnan(values), label.missing, values)
    return values.astype(label.dtype)
