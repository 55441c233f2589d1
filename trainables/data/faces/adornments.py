"""What surrounds the features of a generated face: hair, ears, neck, beard, glasses, and the folds of a moving skin."""

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.data.faces.draws import Floats
from trainables.data.faces.expression import Motion
from trainables.data.faces.geometry import SIDES, Outlines, column
from trainables.data.faces.identity import HAIR_STYLES, Identity
from trainables.data.faces.shapes import ellipse, join, ring, strip, stroke

BEHIND = frozenset({"neck", "shirt", "hair_back", "ear_left", "ear_right"})
"""Outlines that lie behind the face."""


def build_adornments(identity: Identity, outlines: Outlines) -> Outlines:
    """Outlines around the face's own ones."""
    return _behind(identity) | _hair(identity) | _beard(identity, outlines) | _glasses(identity)


def _behind(identity: Identity) -> Outlines:
    width, length = column(identity.face_width), column(identity.face_length)
    neck = join(width * np.array([-0.55, 0.55, 0.6, -0.6]), length * np.array([0.6, 0.6, 2.2, 2.2]))
    shirt = join(width * np.array([-0.62, 0.62, 2.4, 2.6, -2.6, -2.4]), length * np.array([1.25, 1.25, 1.5, 3, 3, 1.5]))
    angle = np.linspace(np.pi, 2 * np.pi, 17)
    dome = join(1.14 * width * np.cos(angle), -0.1 + 1.05 * column(identity.cranium) * np.sin(angle))
    ends = join(width * np.array([1.12, 0.95, -0.95, -1.12]), length * np.array([1.1, 1.35, 1.35, 1.1]))
    outlines = {"neck": neck, "shirt": shirt, "hair_back": np.concatenate([dome, ends], axis=1)}
    for name, side in SIDES.items():
        outlines[f"ear_{name}"] = ellipse(side * 1.03 * width, 0.2 + 0 * width, radius_x=0.11, radius_y=0.23)
    return outlines


def _hair(identity: Identity) -> Outlines:
    """Hair over the forehead; its lower edge depends on the style."""
    width, line = column(identity.face_width), column(identity.hair_line)
    across = np.linspace(-1, 1, 17)
    edges: dict[str, Floats] = {
        "short": line + 0.06 - 0.5 * across**6,
        "fringe": line - 0.2 + 0.03 * np.sin(9 * across) - 0.12 * across**4,
        "long": line + 0.08 - 0.95 * np.abs(across) ** 3.5,
        "parted": line + 0.1 - 0.55 * np.abs(across - 0.35) ** 1.7 + 0 * line,
    }
    styles = [edges.get(style, line + 0.3) for style in HAIR_STYLES]
    edge = np.choose(identity.hair_style[:, None], styles)
    angle = np.linspace(np.pi, 2 * np.pi, 17)
    rise = -(np.abs(np.sin(angle)) ** 0.9)
    dome = join(1.05 * width * np.cos(angle), 1.1 * column(identity.cranium) * rise)
    return {"hair": ring(dome, join(0.98 * width * across, -edge))}


def _beard(identity: Identity, outlines: Outlines) -> Outlines:
    jaw = outlines["jaw"][:, 3:-3]
    across = np.linspace(-1, 1, 17)
    x = jaw[:, :1, 0] * across  # right to left, back to where the jaw began
    edge = column(identity.nose_length) + 0.14 + 0.14 * np.sin(np.pi * np.abs(across)) - 0.2 * np.abs(across) ** 3
    lip = outlines["lip_outer_upper"][:, 1:-1]
    return {
        "beard": np.concatenate([jaw, join(x, edge)], axis=1),
        "moustache": ring(lip - np.array([0, 0.13]), lip - np.array([0, 0.02])),
    }


def _glasses(identity: Identity) -> Outlines:
    center, zero = column(identity.eye_distance), np.zeros((len(identity), 1))
    bridge = stroke((-center + 0.25, zero - 0.02), (center - 0.25, zero - 0.02), bend=-0.05)
    outlines = {"glasses_bridge": strip(bridge, width=0.04 + zero, taper=0)}
    for name, side in SIDES.items():
        outlines[f"glasses_{name}"] = ellipse(side * center, zero + 0.02, radius_x=0.32, radius_y=0.26, points=20)
        outlines[f"lens_{name}"] = ellipse(side * center, zero + 0.02, radius_x=0.285, radius_y=0.225, points=20)
    return outlines


def build_folds(identity: Identity, motion: Motion, outlines: Outlines) -> dict[str, tuple[Floats, Floats]]:
    """Shadows of the skin that action units cast: name to (outline [n, k, 2], darkness [n] in 0..1)."""
    base = column(identity.wrinkles)
    gain = 0.55 + 0.45 * base
    folds: dict[str, tuple[Floats, Floats]] = {}

    def fold(name: str, curve: Floats, darkness: Floats, *, width: float = 0.05) -> None:
        outline = strip(curve, width=np.full((len(identity), 1), width))
        folds[name] = outline, np.clip(darkness * gain, 0, 1)[:, 0]

    for name, side in SIDES.items():
        _cheek_folds(fold, identity, outlines, unit=partial(motion.unit, side=side), name=name, side=side)
    _middle_folds(fold, identity, outlines, unit=motion.unit)
    for name in SIDES:
        folds[f"nose_side_{name}"] = outlines[f"nose_side_{name}"], np.full(len(identity), 0.22)
    return folds


Fold = Callable[..., None]


def _cheek_folds(
    fold: Fold, identity: Identity, outlines: Outlines, *, unit: Callable[[int], Floats], name: str, side: int
) -> None:
    """Nasolabial fold (6, 9, 10, 12), crow's feet and cheek (6), marionette line (15), brow shadow (4)."""
    base = 0.12 * column(identity.wrinkles)
    corner = outlines["lip_outer_upper"][:, [0 if side < 0 else -1]]
    corner_x, corner_y = corner[..., 0], corner[..., 1]
    wing_x, wing_y = side * (column(identity.nose_width) + 0.05), column(identity.nose_length) - 0.06
    laugh = base + 0.5 * unit(12) + 0.6 * unit(10) + 0.35 * unit(9) + 0.15 * unit(6)
    fold(f"laugh_{name}", stroke((wing_x, wing_y), (corner_x + side * 0.13, corner_y - 0.02), bend=-side * 0.14), laugh)
    marionette = stroke((corner_x, corner_y), (corner_x + side * 0.05, corner_y + 0.17))
    fold(f"marionette_{name}", marionette, base + 0.7 * unit(15))
    eye = side * column(identity.eye_distance)
    out = side * column(identity.eye_width)
    for line, rise in enumerate((-0.07, 0.04, 0.13)):
        foot = stroke((eye + 1.15 * out, 0.25 * rise), (eye + 1.75 * out, rise))
        fold(f"crow_{name}_{line}", foot, 0.75 * unit(6), width=0.035)
    pouch = stroke((eye - side * 0.2, 0.14 + 0 * eye), (eye + side * 0.22, 0.13 + 0 * eye), bend=side * 0.2)
    fold(f"pouch_{name}", pouch, base + 0.55 * unit(6) + 0.3 * unit(7))
    cheek = stroke((eye - side * 0.1, 0.36 + 0 * eye), (eye + side * 0.32, 0.3 + 0 * eye), bend=side * 0.25)
    fold(f"cheek_{name}", cheek, 0.4 * unit(6) + 0.1 * unit(12), width=0.07)


def _middle_folds(fold: Fold, identity: Identity, outlines: Outlines, *, unit: Callable[[int], Floats]) -> None:
    """Forehead (1, 2), frown lines (4), bridge of the nose (9), chin (17) and pressed lips (24)."""
    zero = np.zeros((len(identity), 1))
    base = 0.08 * column(identity.wrinkles)
    brow = outlines["brow_left"][:, :1, 1]
    for line, height in enumerate((0.13, 0.26)):
        half = 0.28 + 0.22 * unit(2)
        curve = stroke((-half, brow - height), (half, brow - height), bend=-0.06)
        fold(f"forehead_{line}", curve, base + 0.4 * np.maximum(unit(1), unit(2)), width=0.03)
    for name, side in SIDES.items():
        curve = stroke((side * 0.06 + zero, -0.36 + zero), (side * 0.075 + zero, -0.14 + zero))
        fold(f"frown_{name}", curve, base + 0.8 * unit(4))
        curve = stroke((side * 0.02 + zero, 0.1 + zero), (side * 0.15 + zero, 0.02 + zero))
        fold(f"snarl_{name}", curve, 0.9 * unit(9))
    for line, height in enumerate((0.0, 0.09)):
        curve = stroke((zero - 0.1, zero + height), (zero + 0.1, zero + height), bend=-0.2)
        fold(f"bridge_{line}", curve, 0.75 * unit(9), width=0.04)
    lip = outlines["lip_outer_lower"][:, [6], 1]
    fold("chin", stroke((zero - 0.16, lip + 0.12), (zero + 0.16, lip + 0.12), bend=-0.25), 2 * base + 0.6 * unit(17))
    fold("lip_shadow", stroke((zero - 0.15, lip + 0.035), (zero + 0.15, lip + 0.035)), 0.15 + 0.4 * unit(24))
