"""A source of faces, as every reader gives it: everything but the images at once, the images one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import DataError, shown
from trainables.inside import stays_inside

EncodedImage = bytes | Path | None
"""An image as it stands in a source: its bytes, its file, or nothing."""

ImageReader = Callable[[NDArray[np.int64]], Iterator[EncodedImage]]


def place_within(folder: Path, name: str, *, where: str) -> Path:
    """The file that a source means by a name, which stands in the source's own folder or below it.

    Raises:
        DataError: the name leads out of the folder.
    """
    name = name.replace("\\", "/")
    if not stays_inside(name):
        raise DataError(f"path of an image must stay within the folder of its source, got {shown(name)}: {where}")
    return folder / name


@dataclass(frozen=True, eq=False)
class Source:
    """What a source says of its faces; a list or array entry is a row, in the source's order.

    `labels` are names or codes as given, None = not labelled. `splits` holds train, valid or test per row where the
    source says so. `extras` are the optional labels (`LABEL_COLUMNS`), landmarks in the source's own unit.
    `iter_images` takes ascending row numbers and gives their images.
    """

    path: Path
    sample_ids: list[str]
    labels: list[str | None]
    subjects: list[str | None]
    iter_images: ImageReader
    splits: list[str] | None = None
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sample_ids)
