"""One split of a face table as a file: Arrow IPC, uncompressed, one record batch.

One batch, because then the pixels of all faces lie side by side in the file and a view of the mapping is an array
[n, height, width, channels], beyond 2 GiB too. Faces come in batches all the same: their pixels wait in a raw file.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from spaces.errors import DataError
from trainables.data.labels import LABEL_COLUMNS

_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Faces:
    """Columns of some faces in memory, for writing.

    `images` is uint8 [n, height, width, channels]; `expression` int8 [n], -1 = not labelled. `valence` and `arousal`
    are float32 [n] in -1..1 (NaN = not labelled), `action_units` int8 [n, 12] (-1), `landmarks` float32 [n, 136] in
    0..1 of the image, x0, y0, x1, ... (NaN), `hand` int8 [n] (-1). A label that no face has is left out (None).
    """

    images: NDArray[np.uint8]
    expression: NDArray[np.int8]
    sample_ids: Sequence[str]
    subjects: Sequence[str | None] | None = None
    valence: NDArray[np.float32] | None = None
    arousal: NDArray[np.float32] | None = None
    action_units: NDArray[np.int8] | None = None
    landmarks: NDArray[np.float32] | None = None
    hand: NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.expression)

    def label(self, name: str) -> NDArray[Any] | None:
        """The optional label column of this name."""
        column: NDArray[Any] | None = getattr(self, name)
        return column


@dataclass(frozen=True, eq=False)
class WrittenSplit:
    """What a split's file was found to hold while it was written.

    `pixel_counts` is [channels, 256]: how often each value stands in each channel.
    """

    shape: tuple[int, ...]
    sample_ids: tuple[str, ...]
    expression: NDArray[np.int8]
    n_subjects: int
    labels: dict[str, int]
    pixel_counts: NDArray[np.int64]
    digest: str

    @property
    def n_rows(self) -> int:
        """Faces in the file."""
        return len(self.sample_ids)


def write_split(path: Path, batches: Iterable[Faces], *, shape: tuple[int, ...] | None = None) -> WrittenSplit:
    """Write faces, batch by batch, as one split's file.

    Args:
        path: the `.arrow` file; a raw file stands beside it while batches come.
        shape: height, width, channels that every image must have; that of the first batch when omitted.

    Raises:
        DataError: a batch's columns do not fit together, or there is neither a face nor a shape.
    """
    raw = path.with_suffix(".pixels")
    columns: list[Faces] = []
    with raw.open("wb") as pixels:
        for faces in batches:
            shape = shape or tuple(faces.images.shape[1:])
            _check_fit(faces, shape)
            pixels.write(np.ascontiguousarray(faces.images).data)
            columns.append(_without_pixels(faces))
    if shape is None:
        raise DataError(f"split {path.stem!r} must hold a face, got 0")
    try:
        return _write_columns(path, raw, columns, shape)
    finally:
        raw.unlink()


def map_split(path: Path) -> Any:
    """The record batch of a split's file, mapped: nothing is copied.

    Raises:
        DataError: the file is missing, cut off, or has not one record batch.
    """
    if not path.is_file():
        raise DataError(f"face table must have a file {path.name}, got none: {path.parent}; ingest again")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1:
            raise DataError(f"split must be one record batch, got {reader.num_record_batches}: {path}; ingest again")
        batch = reader.get_batch(0)
        batch.validate()
        return batch
    except PermissionError as error:
        raise DataError(f"split must be readable, got permission denied: {path}") from error
    except (pa.ArrowException, OSError) as error:
        got = f"{path.stat().st_size} bytes that are not"
        raise DataError(f"split must be a whole Arrow file, got {got}: {path}; ingest again") from error


def view_numbers(column: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """The numbers of a mapped column as a read-only array of this shape; nothing is copied.

    Not by way of pyarrow's `to_numpy`, which would import pandas into every trial.
    """
    n = math.prod(shape)
    buffer = column.buffers()[-1]
    return np.frombuffer(buffer, dtype, count=n).reshape(shape) if n else np.zeros(shape, dtype)


def column_types(image_bytes: int) -> dict[str, Any]:
    """Column to Arrow type, of a split whose images have so many bytes; the optional labels after the others."""
    types = {"sample_id": pa.string(), "subject": pa.string(), "image": pa.binary(image_bytes), "expression": pa.int8()}
    for name, label in LABEL_COLUMNS.items():
        number = pa.from_numpy_dtype(label.dtype)
        types[name] = number if label.width == 1 else pa.list_(number, label.width)
    return types


def _check_fit(faces: Faces, shape: tuple[int, ...]) -> None:
    n = len(faces)
    got = (faces.images.dtype.name, tuple(faces.images.shape))
    if got != ("uint8", (n, *shape)):
        raise DataError(f"images must be uint8 {[n, *shape]}, got {got[0]} {list(got[1])}")
    for name, column in (("sample_ids", faces.sample_ids), ("subjects", faces.subjects)):
        if column is not None and len(column) != n:
            raise DataError(f"{name} must have a value for each of {n} faces, got {len(column)}")
    for name, label in LABEL_COLUMNS.items():
        values, wanted = faces.label(name), label.empty(n).shape
        if values is not None and values.shape != wanted:
            raise DataError(f"{name} must have shape {list(wanted)}, got {list(values.shape)}")


def _without_pixels(faces: Faces) -> Faces:
    labels = {name: faces.label(name) for name in LABEL_COLUMNS}
    subjects = faces.subjects if faces.subjects is not None else [None] * len(faces)
    return Faces(np.zeros(0, np.uint8), faces.expression, faces.sample_ids, subjects, **labels)


def _write_columns(path: Path, raw: Path, columns: list[Faces], shape: tuple[int, ...]) -> WrittenSplit:
    sample_ids = tuple(str(sample_id) for faces in columns for sample_id in faces.sample_ids)
    subjects = [subject for faces in columns for subject in faces.subjects or ()]
    expression = np.concatenate([np.zeros(0, np.int8), *(faces.expression for faces in columns)]).astype(np.int8)
    labels = _join_labels(columns)
    n = len(sample_ids)
    images = np.memmap(raw, np.uint8, "r").reshape(n, *shape) if n else np.zeros((0, *shape), np.uint8)
    _write_batch(
        path,
        {
            "sample_id": _texts_to_arrow(sample_ids),
            "subject": _texts_to_arrow(subjects),
            "image": pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(int(np.prod(shape))), n, [None, pa.py_buffer(images)]
            ),
            "expression": _to_arrow("expression", expression),
            **{name: _to_arrow(name, values) for name, values in labels.items()},
        },
    )
    pixel_counts, digest = _measure(images, sample_ids, subjects, {"expression": expression, **labels})
    known = {name: int(LABEL_COLUMNS[name].is_known(values).sum()) for name, values in labels.items()}
    return WrittenSplit(
        shape, sample_ids, expression, len({s for s in subjects if s is not None}), known, pixel_counts, digest
    )


def _join_labels(columns: list[Faces]) -> dict[str, NDArray[Any]]:
    """The labels that any batch has, [n] or [n, width]."""
    joined = {}
    for name, label in LABEL_COLUMNS.items():
        parts = [faces.label(name) for faces in columns]
        if any(part is not None for part in parts):
            filled = [label.empty(len(f)) if part is None else part for f, part in zip(columns, parts, strict=True)]
            joined[name] = np.concatenate(filled).astype(label.dtype)
    return joined


def _to_arrow(name: str, values: NDArray[Any]) -> Any:
    """[n] or [n, width] as a column, without copying (and without pandas, which pa.array would import)."""
    flat = np.ascontiguousarray(values).reshape(-1)
    array = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])
    return array if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(array, LABEL_COLUMNS[name].width)


def _texts_to_arrow(texts: Sequence[str | None]) -> Any:
    """A column of texts and nulls, built by hand for the same reason."""
    encoded = [(text or "").encode(errors="replace") for text in texts]
    offsets = np.zeros(len(texts) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    known = np.packbits(np.array([text is not None for text in texts], bool), bitorder="little")
    buffers = [pa.py_buffer(known), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _write_batch(path: Path, arrays: dict[str, Any]) -> None:
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def begin_digest(
    ids: Sequence[str], subjects: Sequence[str | None], shape: tuple[int, ...], labels: dict[str, NDArray[Any]]
) -> "hashlib.blake2b":
    """A split's digest but for its images, which follow in their order."""
    digest = hashlib.blake2b(repr((list(ids), list(subjects), shape)).encode(), digest_size=16)
    for name, values in sorted(labels.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest


def _measure(
    images: NDArray[np.uint8], ids: Sequence[str], subjects: Sequence[str | None], labels: dict[str, NDArray[Any]]
) -> tuple[NDArray[np.int64], str]:
    """Pixel counts per channel [channels, 256], and a digest of all columns; independent of how batches were cut."""
    channels = images.shape[-1]
    digest = begin_digest(ids, subjects, images.shape, labels)
    counts = np.zeros((channels, 256), np.int64)
    step = max(1, _CHUNK_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        chunk = images[start : start + step]
        digest.update(chunk.data)
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    return counts, digest.hexdigest()
