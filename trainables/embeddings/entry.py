"""One entry of the cache as a file: Arrow IPC, one record batch, a header that says all about it and a checksum.

A file that is not whole, or not what its reader asks for, is no error: it is as if it were not there.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainables.data.split_file import view_numbers
from trainables.embeddings.faces import View
from trainables.embeddings.key import VERSION, EmbeddingKey

FORMAT = "affectune embeddings"
SUFFIX = ".arrow"

_DTYPES: dict[str, Any] = {"float16": np.float16, "float32": np.float32}


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        key: of the embeddings, as JSON.
        rows: faces.
        width: numbers in an embedding.
        dtype: as stored; float32 also where float16 was asked for and could not hold the numbers.
        crc32: of the numbers.
    """

    key: str
    rows: int
    width: int
    dtype: str
    crc32: int

    def to_metadata(self) -> dict[str, str]:
        """For the schema of the file."""
        numbers = {"rows": str(self.rows), "width": str(self.width), "crc32": str(self.crc32)}
        return {"format": FORMAT, "version": str(VERSION), "key": self.key, "dtype": self.dtype, **numbers}

    @classmethod
    def from_metadata(cls, said: dict[str, str]) -> "Header":
        """Raise ValueError or KeyError where it is of another format or version, or incomplete."""
        if (said["format"], said["version"]) != (FORMAT, str(VERSION)):
            raise ValueError(f"format must be {FORMAT} {VERSION}, got {said['format']} {said['version']}")
        return cls(
            key=said["key"],
            rows=int(said["rows"]),
            width=int(said["width"]),
            dtype=said["dtype"],
            crc32=int(said["crc32"]),
        )


def write_entry(path: Path, key: EmbeddingKey, embeddings: View) -> None:
    """Write embeddings [rows, width] to a path of the caller's staging."""
    flat = np.ascontiguousarray(embeddings).reshape(-1)
    rows, width = embeddings.shape
    header = Header(key.to_json(), rows, width, flat.dtype.name, zlib.crc32(flat.data))
    numbers = pa.Array.from_buffers(pa.from_numpy_dtype(flat.dtype), len(flat), [None, pa.py_buffer(flat)])
    column = pa.FixedSizeListArray.from_arrays(numbers, width)
    batch = pa.RecordBatch.from_arrays([column], names=["embedding"]).replace_schema_metadata(header.to_metadata())
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def map_entry(path: Path, key: EmbeddingKey, *, checks_sum: bool) -> View | None:
    """The embeddings of a file, mapped read-only and not copied; None where it is not there, not whole or another's.

    Args:
        path: of the file.
        key: that the file must be of.
        checks_sum: whether all numbers are read and compared with the checksum.
    """
    try:
        batch = _open(path)
        header = _header_of(batch)
        if header.key != key.to_json() or (header.rows, header.width) != (key.rows, key.width):
            return None
        if header.dtype not in (key.dtype, "float32"):
            return None
        embeddings = _view(batch, header)
    except Exception:  # bytes that are not what we wrote may break Arrow anywhere
        return None
    return embeddings if not checks_sum or zlib.crc32(embeddings.data) == header.crc32 else None


def read_header(path: Path) -> Header | None:
    """What a file says of itself; None where it is none of ours or not whole."""
    try:
        return _header_of(_open(path))
    except Exception:  # as above
        return None


def _open(path: Path) -> Any:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    batch = reader.get_batch(0)
    batch.validate()
    return batch


def _header_of(batch: Any) -> Header:
    return Header.from_metadata({name.decode(): text.decode() for name, text in (batch.schema.metadata or {}).items()})


def _view(batch: Any, header: Header) -> NDArray[Any]:
    column = batch.column("embedding")
    dtype = np.dtype(_DTYPES[header.dtype])
    if len(column) != header.rows or column.type != pa.list_(pa.from_numpy_dtype(dtype), header.width):
        raise ValueError(f"column must be {header.rows} x {header.width} {dtype}, got {len(column)} of {column.type}")
    return view_numbers(column, dtype, (header.rows, header.width))
