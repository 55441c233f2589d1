"""Decoded images brought to another size or number of channels, as decoding would have done."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Filter = Literal["bilinear", "bicubic", "lanczos"]

FILTERS: Mapping[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resample_images(images: NDArray[np.uint8], *, image_px: int, by: Filter = "bilinear") -> NDArray[np.uint8]:
    """Images [n, height, width, channels] as [n, image_px, image_px, channels]; as they are where they have that size.

    Bilinear, as decoding resizes, unless another filter is asked for.
    """
    if images.shape[1:3] == (image_px, image_px):
        return images
    resized = np.empty((len(images), image_px, image_px, images.shape[3]), np.uint8)
    for row, image in enumerate(images):
        picture = _to_picture(image).resize((image_px, image_px), FILTERS[by])
        resized[row] = np.asarray(picture).reshape(resized.shape[1:])
    return resized


def match_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Images [n, height, width, 1 or 3] with so many channels: grey three times over, or colour's luminance."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for row, image in enumerate(images):
        grey[row, ..., 0] = np.asarray(_to_picture(image).convert("L"))
    return grey


def _to_picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
