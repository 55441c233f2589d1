"""A source of faces, as every reader gives it: everything but the images at once, the images one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EncodedImage = bytes | Path | None
"""An image as it stands in a source: its bytes, its file, or nothing."""

ImageReader = Callable[[NDArray[np.int64]], Iterator[EncodedImage]]


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
