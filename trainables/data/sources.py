"""Where faces come from: folders of class folders, Parquet files with encoded images, CSV files of paths.

A source is read in two steps: everything but the images at once (`read_source`), then the images that are wanted,
one after the other (`Source.iter_images`), so that memory does not grow with them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from spaces.errors import DataError, is_text, shown
from trainables.data.columns import SPLIT_WORDS, ColumnNames
from trainables.data.decode import SUFFIXES
from trainables.data.source import Source
from trainables.data.source_tables import parts_of, read_csv, read_parquet


def read_source(path: Path, columns: ColumnNames | None = None) -> Source:
    """Read everything but the images of a source.

    Args:
        path: a folder of class folders, a Parquet file or a folder of them, or a CSV file.
        columns: which column is which, where it is not obvious.

    Raises:
        DataError: there is no such source, it is empty, or it is not what it should be.
    """
    columns = columns or ColumnNames()
    if not path.exists():
        raise DataError(f"source must exist, got nothing there: {path}")
    if path.is_file() and not is_text(path.absolute()):
        raise DataError(f"path of a source must be UTF-8, got {shown(str(path))}; rename it")
    source = _reader_for(path)(path, columns)
    if not len(source):
        raise DataError(f"source must hold faces, got 0 rows: {path}")
    return source


def _reader_for(path: Path) -> Callable[[Path, ColumnNames], Source]:
    suffix = path.suffix.lower()
    if path.is_dir():
        return read_parquet if parts_of(path) else read_folder
    if path.is_file() and suffix in (".parquet", ".pq"):
        return read_parquet
    if path.is_file() and suffix in (".csv", ".tsv"):
        return read_csv
    raise DataError(f"source must be a folder, a .parquet or a .csv file, got a file {path.name!r}: {path}")


def read_folder(path: Path, columns: ColumnNames | None = None) -> Source:
    """Images in a folder per class, at any depth; where the folders are named train, valid and test, in each of those.

    Raises:
        DataError: there is no class folder, or no image in any.
    """
    top = _folders_in(path)
    words = [SPLIT_WORDS.get(name.lower()) for name in top]
    has_splits = bool(top) and all(words)
    files: list[Path] = []
    labels: list[str | None] = []
    splits: list[str] = []
    for name, word in zip(top, words, strict=True):
        for class_name in _folders_in(path / name) if has_splits else [name]:
            folder = path / name / class_name if has_splits else path / name
            found = list(_images_under(folder))
            files += found
            labels += [class_name] * len(found)
            splits += [word or "train"] * len(found)
    if not files:
        raise DataError(f"source must hold images in a folder per class, got {_what_is_in(path, top)}: {path}")
    stray = sum(_is_image(entry.name) for entry in os.scandir(path) if entry.is_file())
    return Source(
        path=path,
        sample_ids=[file.relative_to(path).as_posix() for file in files],
        labels=labels,
        subjects=[None] * len(files),
        iter_images=lambda rows: (files[row] for row in rows),
        splits=splits if has_splits else None,
        notes=[f"{stray:,} images outside the class folders left out: {path}"] if stray else [],
    )


def _folders_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _images_under(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder that was walked, perhaps to one above: it would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if _is_image(name))


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"folders of a source must be readable, got {error.strerror}: {error.filename}") from error


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _what_is_in(path: Path, folders: list[str]) -> str:
    if folders:
        return f"no image ({', '.join(SUFFIXES[:4])}, ...) in {len(folders)} folders"
    n = sum(_is_image(entry.name) for entry in os.scandir(path))
    return f"{n} images and no folder" if n else "nothing"
