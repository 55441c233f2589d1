"""Outlines of many faces at once: arrays [faces, points, 2]."""

import numpy as np
from numpy.typing import ArrayLike

from trainables.data.faces.draws import Floats


def join(x: ArrayLike, y: ArrayLike) -> Floats:
    """[n, k, 2] from x and y, each [n, k] or what broadcasts to it."""
    return np.stack(np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64)), axis=-1)


def ring(upper: Floats, lower: Floats) -> Floats:
    """A closed outline from two curves that run in the same direction."""
    return np.concatenate([upper, lower[:, ::-1]], axis=1)


def ellipse(
    center_x: Floats, center_y: Floats, *, radius_x: Floats | float, radius_y: Floats | float, points: int = 16
) -> Floats:
    """[n, points, 2]; centres and radii are [n, 1]."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return join(center_x + radius_x * np.cos(angle), center_y + radius_y * np.sin(angle))


def strip(curve: Floats, *, width: ArrayLike, taper: float = 1.0) -> Floats:
    """The outline of a stroke along a curve.

    Args:
        curve: [n, k, 2].
        width: [n, 1], in the middle of the stroke.
        taper: 0 keeps the width up to the ends, 1 makes them pointed.
    """
    along = np.gradient(curve, axis=1)
    normal = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    place = np.linspace(-1, 1, curve.shape[1])
    half = 0.5 * np.asarray(width)[..., None] * (1 - taper * place**2)[None, :, None]
    return ring(curve + normal * half, curve - normal * half)


def stroke(start: tuple[ArrayLike, ArrayLike], end: tuple[ArrayLike, ArrayLike], *, bend: ArrayLike = 0.0) -> Floats:
    """[n, 7, 2]: a curve between two points that bulges by `bend` to the right of its way. Coordinates are [n, 1]."""
    place = np.linspace(0, 1, 7)
    x0, y0, x1, y1 = (np.asarray(value, np.float64) for value in (*start, *end))
    bulge = np.asarray(bend) * 4 * place * (1 - place)
    return join(x0 + (x1 - x0) * place - bulge * (y1 - y0), y0 + (y1 - y0) * place + bulge * (x1 - x0))
