"""The 68 landmarks in iBUG order (Sagonas et al., 300 Faces in-the-Wild, 2013), read off the drawn curves."""

import numpy as np

from trainables.data.faces.draws import Floats
from trainables.data.faces.geometry import Outlines

JAW = range(17)
BROW_LEFT, BROW_RIGHT = range(17, 22), range(22, 27)
NOSE_BRIDGE, NOSE_BASE = range(27, 31), range(31, 36)
EYE_LEFT, EYE_RIGHT = range(36, 42), range(42, 48)
LIP_OUTER, LIP_INNER = range(48, 60), range(60, 68)
"""Indices per feature. Left and right are sides of the picture; jaw, brows, nose and upper lids run left to right."""

MIRRORED: tuple[int, ...] = (
    *reversed(JAW), *reversed(BROW_RIGHT), *reversed(BROW_LEFT), *NOSE_BRIDGE, *reversed(NOSE_BASE),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
"""Where each landmark of a mirrored picture stood before: after x -> 1 - x, take landmarks[MIRRORED]."""


def read_landmarks(outlines: Outlines) -> Floats:
    """[n, 68, 2], in whatever coordinates the outlines are."""
    parts = [
        outlines["jaw"][:, ::2],
        outlines["brow_left"][:, ::-2],
        outlines["brow_right"][:, ::2],
        outlines["nose_bridge"],
        outlines["nose_base"],
        *(_lids(outlines, name) for name in ("left", "right")),
        outlines["lip_outer_upper"][:, ::2],
        outlines["lip_outer_lower"][:, 10:1:-2],
        outlines["lip_inner_upper"][:, ::3],
        outlines["lip_inner_lower"][:, 9:2:-3],
    ]
    return np.concatenate(parts, axis=1)


def _lids(outlines: Outlines, name: str) -> Floats:
    """Corner, upper lid, corner, lower lid: clockwise from the left."""
    upper, lower = outlines[f"lid_{name}_upper"], outlines[f"lid_{name}_lower"]
    return np.concatenate([upper[:, [0, 4, 8, 12]], lower[:, [8, 4]]], axis=1)
