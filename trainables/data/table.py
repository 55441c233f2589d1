"""The face table: a folder of decoded faces that every trial on a node maps into memory.

`train.arrow`, `valid.arrow` and `test.arrow` are Arrow IPC files of one record batch each, so that the pixels of a
split are one contiguous piece of the file: `Split.images` is a view of it, and opening copies nothing. `dataset.json`
says what the files hold.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spaces.documents import parse_document, read_file
from spaces.errors import DataError, is_text, shown
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.split_checks import check_columns, check_expression, check_label, read_texts
from trainables.data.split_file import Faces, WrittenSplit, map_split, view_numbers, write_split
from trainables.data.table_info import DatasetInfo, check_info
from trainables.outputs import new_folder

__all__ = [
    "SPLITS",
    "DatasetInfo",
    "FaceTable",
    "Faces",
    "Split",
    "SplitName",
    "fill_table",
    "open_table",
    "parse_info",
    "shared_table",
    "write_table",
]

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")

TABLE_FORMAT = "affectune face table"
TABLE_VERSION = 1
INFO_FILE = "dataset.json"


class Split:
    """One split of a table, mapped into memory. Opening reads the file's footer alone.

    Columns are checked when they are first asked for: DataError where one holds what no table can.
    """

    def __init__(
        self, path: Path, *, name: str, image_px: int, channels: int, class_counts: Sequence[int] | None = None
    ) -> None:
        """Map a file.

        Args:
            class_counts: labelled faces of each class that it must hold; not compared if omitted.
        """
        self.name = name
        self._path = path
        self._class_counts = class_counts
        self._shape = (image_px, image_px, channels)
        self._batch = map_split(path)
        self.n_rows: int = self._batch.num_rows
        check_columns(self._batch, image_bytes=math.prod(self._shape), path=path)

    def __len__(self) -> int:
        return self.n_rows

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """[n, height, width, channels]: a read-only view of the mapped file."""
        return view_numbers(self._batch.column("image"), np.uint8, (self.n_rows, *self._shape))

    @cached_property
    def expression(self) -> NDArray[np.int8]:
        """[n]: indices of classes, -1 = not labelled."""
        values = view_numbers(self._batch.column("expression"), np.int8, (self.n_rows,))
        if self._class_counts is not None:
            check_expression(values, self._class_counts, split=self.name, path=self._path)
        return values

    @cached_property
    def sample_ids(self) -> list[str]:
        """[n]: unique within the table."""
        return read_texts(self._batch.column("sample_id"), path=self._path)

    @cached_property
    def subjects(self) -> list[str | None]:
        """[n]: the person in the picture, None where not known."""
        return read_texts(self._batch.column("subject"), path=self._path)

    def column(self, name: str) -> NDArray[Any] | None:
        """An optional label, [n] or [n, width], read-only; None where this split has none of it.

        Raises:
            KeyError: there is no label of this name in any table.
        """
        label = LABEL_COLUMNS[name]
        if name not in self._batch.schema.names:
            return None
        shape = (self.n_rows,) if label.width == 1 else (self.n_rows, label.width)
        values = view_numbers(self._batch.column(name), label.dtype, shape)
        check_label(name, values, path=self._path)
        return values


class FaceTable:
    """An open face table. The test split is sealed: `split` does not give it.

    Attributes:
        path: the folder that is mapped.
        info: what it holds.
        origin: what any machine can open it by: the folder, or the URI that the folder is a copy of.
    """

    def __init__(self, path: Path, info: DatasetInfo) -> None:
        self.path = path
        self.info = info
        self.origin = str(path.absolute())
        self._splits: dict[str, Split] = {}

    def split(self, name: Literal["train", "valid"]) -> Split:
        """The faces to fit on, or to choose with.

        Raises:
            DataError: the split's file is missing, cut off, or not what dataset.json says; or the test split is asked
                for, which only `sealed_test` gives.
        """
        if name not in ("train", "valid"):
            raise DataError(f"split must be train or valid, got {name!r}: {self.path}; the test split is sealed")
        return self._open(name)

    def sealed_test(self) -> Split | None:
        """The test split, for `evaluate` and the last step of a report alone; None where the table has none."""
        return self._open("test") if self.info.rows.get("test", 0) else None

    def _open(self, name: SplitName) -> Split:
        if name not in self._splits:
            path = self.path / f"{name}.arrow"
            split = Split(
                path,
                name=name,
                image_px=self.info.image_px,
                channels=self.info.channels,
                class_counts=self.info.class_counts[name],
            )
            n_rows = self.info.rows[name]
            if split.n_rows != n_rows:
                raise DataError(f"{name} must have {n_rows} rows, got {split.n_rows}: {path}; ingest again")
            self._splits[name] = split
        return self._splits[name]


def open_table(path: Path) -> FaceTable:
    """Open a face table; copies nothing.

    Raises:
        DataError: the folder is no face table, is of a newer version, or a split of it is missing or cut off.
    """
    table = FaceTable(path, _read_info(path))
    table.split("train")
    table.split("valid")
    if table.info.rows["test"] and not (path / "test.arrow").is_file():
        raise DataError(f"face table must have a file test.arrow, got none: {path}; ingest again")
    return table


_Mark = tuple[int, int, int]
_shared: dict[Path, tuple[_Mark, FaceTable]] = {}
"""The table that this process opened last."""


def shared_table(path: Path) -> FaceTable:
    """Open a face table, or give the one that this process opened last where it is the same: for trials in a row.

    It is the same while its dataset.json is, which is written last, and anew with every table.

    Raises:
        DataError: as for `open_table`.
    """
    path = path.absolute()
    before = _mark(path)
    kept = _shared.get(path)
    if kept is not None and before is not None and kept[0] == before:
        return kept[1]
    table = open_table(path)
    _shared.clear()
    if before is not None and before == _mark(path):  # else it was replaced meanwhile
        _shared[path] = (before, table)
    return table


def _mark(path: Path) -> _Mark | None:
    """Tells a table's dataset.json from one that replaced it; None where there is none."""
    try:
        found = (path / INFO_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_table(
    out: Path,
    *,
    splits: Mapping[SplitName, Faces | Iterable[Faces]],
    classes: Sequence[str],
    sources: Mapping[str, str],
    notes: Sequence[str] = (),
) -> FaceTable:
    """Write a face table, whole or not at all, and open it.

    Args:
        out: a new or empty folder.
        splits: faces per split, all at once or in batches that are written as they come; one left out is empty.
        classes: names, in the order of the indices in `expression`.
        sources: split to where its faces come from.
        notes: what a reader of `dataset.json` should know.

    Raises:
        OutputError: `out` already holds something, or the disk is full.
        DataError: there is no training face, or batches do not fit together.
    """
    with new_folder(out) as staging:
        fill_table(staging, splits=splits, classes=classes, sources=sources, notes=notes)
    return open_table(out)


def fill_table(
    folder: Path,
    *,
    splits: Mapping[SplitName, Faces | Iterable[Faces]],
    classes: Sequence[str],
    sources: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write the files of a table into a folder that the caller has staged; see `write_table`."""
    written: dict[SplitName, WrittenSplit] = {}
    shape = None
    for name in SPLITS:
        faces = splits.get(name, ())
        batches = [faces] if isinstance(faces, Faces) else faces
        written[name] = write_split(folder / f"{name}.arrow", batches, shape=shape)
        shape = written[name].shape
    if not written["train"].n_rows:
        raise DataError("split 'train' must hold a face, got 0")
    info = _describe(written, classes=classes, sources=sources, notes=notes)
    document = {"format": TABLE_FORMAT, "version": TABLE_VERSION, **asdict(info)}
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / INFO_FILE).write_bytes(text.encode(errors="replace"))  # names of files may be no text


def _describe(
    written: Mapping[SplitName, WrittenSplit],
    *,
    classes: Sequence[str],
    sources: Mapping[str, str],
    notes: Sequence[str],
) -> DatasetInfo:
    height, width, channels = written["train"].shape
    if height != width or channels not in (1, 3):
        raise DataError(f"images must be square with 1 or 3 channels, got {[height, width, channels]}")
    for name, split in written.items():
        top = int(split.expression.max(initial=-1))
        if top >= len(classes):
            raise DataError(f"expression must be below {len(classes)}, the number of classes, got {top}: {name}")
    _check_unique([sample_id for split in written.values() for sample_id in split.sample_ids])
    mean, std = _mean_and_std(written["train"].pixel_counts)
    digests = [(name, split.digest) for name, split in written.items()]
    return DatasetInfo(
        classes=tuple(classes),
        image_px=height,
        channels=channels,
        mean=mean,
        std=std,
        rows={name: split.n_rows for name, split in written.items()},
        class_counts={name: _count_classes(split.expression, len(classes)) for name, split in written.items()},
        content_hash=hashlib.blake2b(repr((tuple(classes), digests)).encode(), digest_size=16).hexdigest(),
        sources=dict(sources),
        notes=list(notes),
        subjects={name: split.n_subjects for name, split in written.items()},
        labels={name: split.labels for name, split in written.items()},
    )


def _check_unique(sample_ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for sample_id in sample_ids:
        if sample_id in seen:
            raise DataError(f"sample_id must be unique within a table, got {sample_id!r} twice")
        seen.add(sample_id)


def _count_classes(expression: Any, n_classes: int) -> list[int]:
    return [int(n) for n in np.bincount(expression[expression >= 0], minlength=n_classes)]


def _mean_and_std(pixel_counts: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of pixels scaled to 0..1, from how often each value stands in it [channels, 256]."""
    values = np.arange(256) / 255
    shares = pixel_counts / pixel_counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum(shares @ values**2 - mean**2, 0))
    return tuple(round(float(m), 6) for m in mean), tuple(round(float(s), 6) for s in std)


def _read_info(path: Path) -> DatasetInfo:
    file = path / INFO_FILE
    if not is_text(path.absolute()):
        raise DataError(f"path of a face table must be UTF-8, got {shown(str(path))}; rename the folder")
    if not file.is_file():
        what = f"a folder without {INFO_FILE}" if path.is_dir() else "a file" if path.exists() else "nothing there"
        rule = f"face table must be a folder with {INFO_FILE}"
        raise DataError(f"{rule}, got {what}: {path}; `affectune data ingest` makes one")
    return parse_info(read_file(file, error=DataError), file=str(file))


def parse_info(content: bytes, *, file: str) -> DatasetInfo:
    """The content of a `dataset.json`, checked; `file` is how messages name it.

    Raises:
        DataError: it is no JSON, of another format or version, lacks a field, or what it says can't be true.
    """
    head = parse_document(content, dict[str, Any], where=file, error=DataError)
    if head.get("format") != TABLE_FORMAT:
        raise DataError(f"{INFO_FILE} must be of an {TABLE_FORMAT}, got another format: {file}")
    version = head.get("version")
    if version != TABLE_VERSION:
        advice = "update affectune" if isinstance(version, int) and version > TABLE_VERSION else "ingest again"
        raise DataError(f"face table must be of version {TABLE_VERSION}, got {shown(version)}: {file}; {advice}")
    info = parse_document(content, DatasetInfo, where=file, error=DataError, beside=("format", "version"))
    check_info(info, SPLITS, file=file)
    return info
