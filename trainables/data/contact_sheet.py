"""Some faces of a table to look at before anything is trained: on one picture, a row a class, or a file each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spaces.errors import DataError, shown
from trainables.data.table import Split
from trainables.inside import stays_inside

_MARGIN_PX = 4
_TITLE_PX = 14


def sample_rows(split: Split, *, n_classes: int, per_class: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """For each class, up to `per_class` rows of the split, drawn at random."""
    generator = np.random.default_rng(seed)
    rows = [np.flatnonzero(split.expression == index) for index in range(n_classes)]
    return [np.sort(generator.permutation(of_class)[:per_class]) for of_class in rows]


def draw_sheet(split: Split, classes: Sequence[str], *, per_class: int = 10, seed: int = 0) -> Image.Image:
    """A row of faces for each class, its name above them."""
    px = split.images.shape[1]
    tile = max(px, 32)
    height = _TITLE_PX + tile + _MARGIN_PX
    width = max(per_class * (tile + _MARGIN_PX) + _MARGIN_PX, 200)
    sheet = Image.new("RGB", (width, height * len(classes) + _MARGIN_PX), "white")
    pen = ImageDraw.Draw(sheet)
    chosen = sample_rows(split, n_classes=len(classes), per_class=per_class, seed=seed)
    for index, (name, rows) in enumerate(zip(classes, chosen, strict=True)):
        top = _MARGIN_PX + index * height
        total = int((split.expression == index).sum())
        pen.text((_MARGIN_PX, top), f"{split.name}: {name} ({total:,})", fill="black")
        for place, row in enumerate(rows):
            face = _picture_of(split.images[row])
            sheet.paste(face, (_MARGIN_PX + place * (tile + _MARGIN_PX), top + _TITLE_PX))
    return sheet


def write_pictures(
    folder: Path, split: Split, classes: Sequence[str], *, per_class: int = 10, seed: int = 0
) -> list[Path]:
    """Faces as PNG files, a folder a class, as `ingest` and `predict` read them; those of the sheet.

    Args:
        folder: exists and is empty.
        split: of a table.
        classes: its names, in order.
        per_class: faces of a class, at most.
        seed: of the draw.

    Raises:
        DataError: a class has a name that no folder can have.
    """
    for name in classes:
        if not stays_inside(name) or len(Path(name).parts) != 1:
            raise DataError(f"classes must have names that folders can have, got {shown(name)}")
    files = []
    for name, rows in zip(
        classes, sample_rows(split, n_classes=len(classes), per_class=per_class, seed=seed), strict=True
    ):
        of_class = folder / name
        of_class.mkdir()
        for row in rows.tolist():
            files.append(of_class / f"{split.name}-{row:06d}.png")
            _picture_of(split.images[row]).save(files[-1])
    return files


def _picture_of(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
