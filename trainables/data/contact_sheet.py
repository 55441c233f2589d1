"""A picture of some faces of a table, a row a class, to look at before anything is trained on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainables.data.table import Split

_MARGIN_PX = 4
_TITLE_PX = 14


def sample_rows(split: Split, *, n_classes: int, per_class: int, seed: int = 0) -> list[NDArray[np.int64]]:
    """For each class, up to `per_class` rows of the split, drawn at random."""
    generator = np.random.default_rng(seed)
    rows = [np.flatnonzero(split.expression == index) for index in range(n_classes)]
    return [np.sort(generator.permutation(of_class)[:per_class]) for of_class in rows]


def draw_sheet(split: Split, classes: Sequence[str], *, per_class: int = 10, seed: int = 0) -> Image.Image:
    """A row of faces for each class, its name above them."""
    px, channels = split.images.shape[1], split.images.shape[3]
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
            pixels = split.images[row]
            face = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
            sheet.paste(face, (_MARGIN_PX + place * (tile + _MARGIN_PX), top + _TITLE_PX))
    return sheet
