"""RandAugment: a few operations drawn at random, all of one strength, on one face.

Source: Cubuk et al. 2020 (RandAugment); the operations and their scales are torchvision's, without Solarize and
Equalize as in Li et al. 2022.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from torchvision.transforms.v2 import functional

Face = Image.Image

MAX_MAGNITUDE = 30


class Operation(NamedTuple):
    """One thing that can happen to a face.

    `apply` takes the face and an amount: a slope, a share of the side, degrees, a factor's distance from 1, or bits
    that are lost. `largest` is the amount at magnitude 30; at 0 it is 0. Where `is_signed`, it may also be negative.
    """

    apply: Callable[[Face, float], Face]
    largest: float
    is_signed: bool


def _affine(face: Face, *, shear: tuple[float, float] = (0, 0), shift: tuple[float, float] = (0, 0)) -> Face:
    """Shear in degrees about the upper left corner, then a shift in whole pixels; what comes in is black."""
    pixels = [int(round(distance, 4)) for distance in shift]  # 54.99999999 is 55
    moved: Face = functional.affine(face, angle=0, translate=pixels, scale=1, shear=list(shear), center=[0, 0])
    return moved


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(lambda face, _: face, 0.0, False),
    "shear_x": Operation(lambda face, slope: _affine(face, shear=(_degrees(slope), 0)), 0.3, True),
    "shear_y": Operation(lambda face, slope: _affine(face, shear=(0, _degrees(slope))), 0.3, True),
    "translate_x": Operation(lambda face, share: _affine(face, shift=(share * face.width, 0)), 150 / 331, True),
    "translate_y": Operation(lambda face, share: _affine(face, shift=(0, share * face.height)), 150 / 331, True),
    "rotate": Operation(functional.rotate, 30.0, True),
    "brightness": Operation(lambda face, change: functional.adjust_brightness(face, 1 + change), 0.9, True),
    "color": Operation(lambda face, change: functional.adjust_saturation(face, 1 + change), 0.9, True),
    "contrast": Operation(lambda face, change: functional.adjust_contrast(face, 1 + change), 0.9, True),
    "sharpness": Operation(lambda face, change: functional.adjust_sharpness(face, 1 + change), 0.9, True),
    "posterize": Operation(lambda face, bits_lost: functional.posterize(face, 8 - round(bits_lost)), 4.0, False),
    "auto_contrast": Operation(lambda face, _: functional.autocontrast(face), 0.0, False),
}
"""The 12 operations by name."""


class RandAugment:
    """Alters a face by operations drawn with replacement."""

    def __init__(self, n_ops: int, magnitude: int) -> None:
        """
        Args:
            n_ops: operations a face.
            magnitude: their strength, 0..30.
        """
        self._n_ops = n_ops
        self._strength = magnitude / MAX_MAGNITUDE

    def alter(self, image: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
        """An altered copy of a face.

        Args:
            image: [height, width, channels], grey (on which color does nothing) or RGB.
            generator: of the draws.

        Returns:
            [height, width, channels].
        """
        operations = tuple(OPERATIONS.values())
        face = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        for index in generator.integers(len(operations), size=self._n_ops):
            operation = operations[index]
            sign = -1 if operation.is_signed and generator.random() < 0.5 else 1
            face = operation.apply(face, sign * self._strength * operation.largest)
        return np.array(face).reshape(image.shape)
