"""CSV and Parquet sources."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spaces.errors import DataError, near_miss, shown
from trainables.data.columns import SPLIT_WORDS, ColumnNames, check_flat, label_column_names, read_labels, to_texts
from trainables.data.source import EncodedImage, ImageReader, Source, place_within

MAX_COLUMNS = 10_000
"""Of a source; more of them are a table that was turned on its side."""

_BATCH_ROWS = 256
_MAX_HEADER = 1 << 20
_FIRST_WORD = re.compile(r"[-_. ]")


def read_csv(path: Path, columns: ColumnNames) -> Source:
    """A CSV file of image paths, relative to its own folder, and labels.

    Raises:
        DataError: it is no CSV file, or a column or value is not as it should be.
    """
    header, delimiter = _read_header(path)
    image = columns.require("image", header, where=str(path))
    strings = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = pyarrow.csv.read_csv(str(path), parse_options=parse, convert_options=strings)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"source must be a CSV file with equal rows, got {_first_line(error)}: {path}") from error
    if table.column_names != header:
        raise DataError(f"column names must stand in the first line, each quoted whole, got {shown(header)}: {path}")
    paths = to_texts(table.column(image))
    files = [
        None if name is None else place_within(path.parent, name, where=f"row {row} of {path}")
        for row, name in enumerate(paths, start=1)
    ]
    ids = [name or f"row-{row:06d}" for row, name in enumerate(paths)]
    return _to_source(table, columns, path=path, ids=ids, reader=lambda rows: (files[row] for row in rows))


def parts_of(folder: Path) -> list[Path]:
    """The Parquet files of a folder, sorted."""
    return sorted(part for part in folder.glob("*.parquet") if not part.is_dir())


def read_parquet(path: Path, columns: ColumnNames) -> Source:
    """A Parquet file, or a folder of them, with encoded images: bytes, {bytes, path} structs, or paths.

    Files of a folder that are named train-..., validation-... and test-... are taken for these splits.

    Raises:
        DataError: it is no Parquet file, or a column or value is not as it should be.
    """
    parts = parts_of(path) if path.is_dir() else [path]
    schema = _open_parquet(parts[0]).schema_arrow
    _check_names_differ(schema.names, parts[0])
    image = columns.require("image", schema.names, where=str(path))
    wanted = _columns_beside_image(schema, columns, image, where=str(path))
    tables = [_read_columns(part, wanted) for part in parts]
    table = _concatenate(tables, path)
    starts = np.cumsum([0, *(len(part) for part in tables)])

    def iter_images(rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        for part, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
            yield from _iter_part(part, image, rows[(rows >= start) & (rows < stop)] - start)

    ids = [f"{path.stem}-{row:06d}" for row in range(len(table))]
    source = _to_source(_with_class_names(table, schema), columns, path=path, ids=ids, reader=iter_images)
    words = [SPLIT_WORDS.get(_FIRST_WORD.split(part.stem.lower())[0]) for part in parts]
    if source.splits is not None or not path.is_dir() or not all(words):
        return source
    splits = [word or "train" for word, part in zip(words, tables, strict=True) for _ in range(len(part))]
    return replace(source, splits=splits)


def _to_source(table: Any, columns: ColumnNames, *, path: Path, ids: list[str], reader: ImageReader) -> Source:
    where, names = str(path), table.column_names
    label = columns.require("label", names, where=where)
    id_name, subject, split = (columns.find(kind, names, where=where) for kind in ("id", "subject", "split"))
    for name in (label, id_name, subject, split):
        if name is not None:
            check_flat(table.column(name), name=name, where=where)
    if id_name is not None:
        ids = [given or made for given, made in zip(to_texts(table.column(id_name)), ids, strict=True)]
    return Source(
        path=path,
        sample_ids=ids,
        labels=to_texts(table.column(label)),
        subjects=to_texts(table.column(subject)) if subject is not None else [None] * len(ids),
        iter_images=reader,
        splits=_to_splits(to_texts(table.column(split)), name=split, where=where) if split is not None else None,
        extras=read_labels(table, where=where),
    )


def _to_splits(words: list[str | None], *, name: str, where: str) -> list[str]:
    splits = []
    for row, word in enumerate(words):
        split = SPLIT_WORDS.get((word or "").lower())
        if split is None:
            got = f"got {word!r}: row {row + 1} of {where}"
            raise DataError(f"column {name!r} must say train, valid or test, {got}{near_miss(word or '', SPLIT_WORDS)}")
        splits.append(split)
    return splits


def _read_header(path: Path) -> tuple[list[str], str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline(_MAX_HEADER)
        delimiter = max(",;\t", key=line.count)
        header = next(csv.reader([line], delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise DataError(f"source must be a CSV file in UTF-8, got other bytes: {path}") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"source must be a CSV file with a line of column names, got none ({error}): {path}") from error
    if not any(name.strip() for name in header):
        raise DataError(f"source must be a CSV file with a line of column names, got none: {path}")
    _check_names_differ(header, path)
    return header, delimiter


def _check_names_differ(names: list[str], path: Path) -> None:
    if len(names) > MAX_COLUMNS:
        raise DataError(f"source must have at most {MAX_COLUMNS:,} columns, got {len(names):,} or more: {path}")
    doubles = sorted(name for name, count in Counter(names).items() if count > 1)
    if doubles:
        raise DataError(f"column names must differ, got {shown(doubles[0])} twice: {path}")


def _open_parquet(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"parts of a source must be files, got another thing or a link to nothing: {path}")
    try:
        return pq.ParquetFile(path)
    except PermissionError as error:
        raise DataError(f"source must be readable, got permission denied: {path}") from error
    except (pa.ArrowException, OSError) as error:
        got = f"{path.stat().st_size:,} bytes that are none or are cut off"
        raise DataError(f"source must be a Parquet file, got {got}: {path}") from error


def _columns_beside_image(schema: Any, columns: ColumnNames, image: str, *, where: str) -> list[str]:
    names = [name for name in schema.names if name != image]
    columns.require("label", names, where=where)
    found = [columns.find(kind, names, where=where) for kind in ("label", "subject", "id", "split")]
    extras = [name for group in label_column_names(names).values() for name in group]
    return list(dict.fromkeys([name for name in found if name is not None] + extras))


def _read_columns(part: Path, wanted: list[str]) -> Any:
    file = _open_parquet(part)
    for name in wanted:
        if name not in file.schema_arrow.names:
            raise DataError(f"column {name!r} must be in every part of the source, got none: {part}")
    with _parquet_errors(part):
        return file.read(columns=wanted)


def _concatenate(tables: list[Any], path: Path) -> Any:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(f"parts of a source must have the same columns, got {_first_line(error)}: {path}") from error


def _with_class_names(table: Any, schema: Any) -> Any:
    """Class codes replaced by the names that Hugging Face datasets keep in the file's metadata."""
    names_of = _class_names(schema)
    for name in table.column_names:
        names = names_of.get(name)
        if names and pa.types.is_integer(table.schema.field(name).type):
            codes = table.column(name).to_pylist()
            texts = [names[code] if code is not None and 0 <= code < len(names) else None for code in codes]
            table = table.set_column(table.column_names.index(name), name, pa.array(texts, pa.string()))
    return table


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Column to the names of its codes; none where the metadata are not as such files have them."""
    try:
        features = dict(json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"])
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    told = {column: feature.get("names") for column, feature in features.items() if isinstance(feature, dict)}
    return {
        column: names
        for column, names in told.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def _iter_part(part: Path, image: str, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
    """The images of some ascending rows of one file; row groups without any are not read."""
    file = _open_parquet(part)
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        inside = rows[(rows >= start) & (rows < stop)] - start
        if len(inside):
            yield from _iter_group(file, group, image, inside, part)
        start = stop


def _iter_group(file: Any, group: int, image: str, rows: NDArray[np.int64], part: Path) -> Iterator[EncodedImage]:
    start = 0
    with _parquet_errors(part):
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=[image]):
            stop = start + len(batch)
            inside = rows[(rows >= start) & (rows < stop)] - start
            if len(inside):
                cells = batch.column(0)
                for row in inside.tolist():
                    yield _to_encoded(cells[row].as_py(), part)
            start = stop
            if not len(rows) or start > rows[-1]:
                return


def _to_encoded(cell: Any, part: Path) -> EncodedImage:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return place_within(part.parent, cell, where=str(part))
    raise DataError(f"images must be encoded bytes or paths, got {type(cell).__name__}: {part}")


@contextmanager
def _parquet_errors(part: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"source must be a whole Parquet file, got {_first_line(error)}: {part}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
