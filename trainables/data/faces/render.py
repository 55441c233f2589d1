"""Painting scenes: polygons with anti-aliased edges, soft folds, then what light and camera do to the picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.domains import Domain
from trainables.data.faces.draws import Draws, Floats, Generators
from trainables.data.faces.scene import Layer, Scene

_SUBPIXEL_BITS = 6
_FOLD_BLUR = 0.012  # parts of the picture
_FOLD_DEPTH = 0.65
Pixels = NDArray[np.uint8]
Pictures = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shot:
    """Light and camera of n pictures, each field [n] or [n, 3]; see Domain."""

    shade: Floats
    shade_angle: Floats
    gain: Floats
    gamma: Floats
    contrast: Floats
    tint: Floats
    blur_px: Floats
    noise: Floats
    coarse: Floats


def draw_shot(draws: Draws, domain: Domain) -> Shot:
    """Fifteen columns of randomness."""
    return Shot(
        shade=draws.uniform(*domain.shade),
        shade_angle=draws.uniform(0, 2 * np.pi),
        gain=draws.uniform(*domain.gain),
        gamma=draws.uniform(*domain.gamma),
        contrast=draws.uniform(*domain.contrast),
        tint=1 + np.stack([draws.normal(domain.tint) for _ in range(3)], axis=1),
        blur_px=draws.uniform(*domain.blur_px),
        noise=draws.uniform(*domain.noise),
        coarse=draws.uniform(*domain.coarse),
    )


def paint(scene: Scene, *, image_px: int) -> Pixels:
    """Paint scenes, without light and camera.

    Returns:
        uint8 [n, image_px, image_px, 3], red, green, blue.
    """
    n = len(scene.background)
    pictures = np.empty((n, image_px, image_px, 3), np.uint8)
    pictures[:] = scene.background[:, None, None]
    folds = np.zeros((n, image_px, image_px), np.uint8)
    _fill(pictures, scene.skin)
    _fill(folds, scene.folds)
    for index in range(n):
        _darken(pictures[index], folds[index])
    _fill(pictures, scene.above)
    return pictures


def expose(pictures: Pixels, shot: Shot, *, generators: Generators) -> Pixels:
    """Light from one side, colour cast, contrast and gamma, lens blur, a coarse sensor, and its noise."""
    lit = _light(pictures, shot)
    side = pictures.shape[1]
    seen = np.empty_like(pictures)
    for index, generator in enumerate(generators):
        picture = _camera(lit[index], blur_px=shot.blur_px[index] * side / 64, coarse=shot.coarse[index])
        grain = generator.standard_normal((side, side, 1), dtype=np.float32) * np.float32(shot.noise[index])
        np.clip(picture + grain, 0, 255, out=picture)
        seen[index] = picture
    return seen


def _fill(pictures: NDArray[np.uint8], layers: list[Layer]) -> None:
    """Fill every layer's polygon, layer over layer. A point at 0 or 1 lies on the outer edge of the border pixels."""
    scale, side = 1 << _SUBPIXEL_BITS, pictures.shape[1]
    points = np.concatenate([layer.outline for layer in layers], axis=1)
    fixed = np.rint((points * side - 0.5) * scale).astype(np.int32)
    ends = np.cumsum([layer.outline.shape[1] for layer in layers]).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    colours = np.clip(np.stack([layer.colour for layer in layers], axis=1), 0, 255).round().tolist()  # [n, layers, 3]
    shown = np.stack([layer.shown for layer in layers], axis=1)
    for index, picture in enumerate(pictures):
        for number in np.flatnonzero(shown[index]).tolist():
            start, end = spans[number]
            cv2.fillPoly(picture, [fixed[index, start:end]], colours[index][number], cv2.LINE_AA, _SUBPIXEL_BITS)


def _darken(picture: Pixels, folds: Pixels) -> None:
    soft = cv2.GaussianBlur(folds, (0, 0), _FOLD_BLUR * len(folds))
    factor = np.float32(1) - soft.astype(np.float32) * np.float32(_FOLD_DEPTH / 255)
    picture[:] = picture * factor[..., None]


def _light(pictures: Pixels, shot: Shot) -> Pictures:
    """float32 [n, side, side, 3]."""
    side = pictures.shape[1]
    across = np.linspace(-0.5, 0.5, side, dtype=np.float32)

    def per_picture(values: Floats) -> Pictures:
        return np.asarray(values, np.float32)[:, None, None]

    slope_x = per_picture(shot.shade * np.cos(shot.shade_angle))
    slope_y = per_picture(shot.shade * np.sin(shot.shade_angle))
    light = per_picture(shot.gain) * (1 + slope_x * across[None, None, :] + slope_y * across[None, :, None])
    levels = np.linspace(0, 1, 256, dtype=np.float32)[None]
    curve = levels ** np.asarray(shot.gamma, np.float32)[:, None]
    curve = 255 * (0.5 + (curve - 0.5) * np.asarray(shot.contrast, np.float32)[:, None])
    lit = np.stack([tone[picture] for tone, picture in zip(curve, pictures, strict=True)])
    lit *= light[..., None]
    lit *= np.asarray(shot.tint, np.float32)[:, None, None]
    return np.asarray(lit)


def _camera(picture: Pictures, *, blur_px: float, coarse: float) -> Pictures:
    side = len(picture)
    if blur_px > 0.25:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur_px), np.float32)
    if coarse < 0.95:
        small = cv2.resize(picture, (round(side * coarse),) * 2, interpolation=cv2.INTER_AREA)
        picture = np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)
    return picture
