"""The content hash of a face table, computed from its files: whether they are what `dataset.json` says."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.labels import LABEL_COLUMNS
from trainables.data.split_file import begin_digest
from trainables.data.table import SPLITS, DatasetInfo, Split, open_table
from trainables.pulse import beat

_CHUNK_FACES = 4096


def hash_table(folder: Path) -> str:
    """The hash that `dataset.json` should hold: of ids, subjects, labels and pixels of all splits.

    Reads everything, the test split too, of which nothing else is told.

    Raises:
        DataError: the folder is no face table, or a file of it is cut off.
    """
    info = open_table(folder).info
    digests = [(name, _digest_split(folder / f"{name}.arrow", info)) for name in SPLITS]
    return hashlib.blake2b(repr((info.classes, digests)).encode(), digest_size=16).hexdigest()


def _digest_split(path: Path, info: DatasetInfo) -> str:
    if not path.exists():  # a table without test faces
        shape = (0, info.image_px, info.image_px, info.channels)
        return _digest([], [], images=np.zeros(shape, np.uint8), labels={"expression": np.zeros(0, np.int8)})
    split = Split(path, name=path.stem, image_px=info.image_px, channels=info.channels)
    labels: dict[str, NDArray[Any]] = {"expression": split.expression}
    for name in LABEL_COLUMNS:
        values = split.column(name)
        if values is not None:
            labels[name] = values
    return _digest(split.sample_ids, split.subjects, images=split.images, labels=labels)


def _digest(
    ids: list[str], subjects: list[str | None], *, images: NDArray[np.uint8], labels: dict[str, NDArray[Any]]
) -> str:
    """As `split_file` computes it when a split is written."""
    digest = begin_digest(ids, subjects, images.shape, labels)
    for start in range(0, len(images), _CHUNK_FACES):
        digest.update(images[start : start + _CHUNK_FACES].data)
        beat()
    return digest.hexdigest()
