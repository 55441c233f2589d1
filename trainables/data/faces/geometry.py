"""Where the features of a generated face lie: identity and action units to outlines, in face units (see identity.py).

Each function returns named outlines [n, points, 2] which are drawn, and curves from which the landmarks are read, so
that a landmark is exactly on what it marks.
"""

import numpy as np

from trainables.data.faces.draws import Floats
from trainables.data.faces.expression import Motion
from trainables.data.faces.identity import Identity
from trainables.data.faces.shapes import ellipse, join, ring, strip

Outlines = dict[str, Floats]
SIDES = {"left": -1, "right": 1}
"""Sides of the picture, and the sign of x there."""


def build_outlines(identity: Identity, motion: Motion) -> Outlines:
    """Every outline of the face proper, and the curves `jaw`, `brow_*`, `lid_*`, `nose_*` and `lip_*`."""
    outlines = _head(identity, motion)
    for name, side in SIDES.items():
        outlines |= _brow(identity, motion, name=name, side=side)
        outlines |= _eye(identity, motion, name=name, side=side)
    return outlines | _nose(identity, motion) | _mouth(identity, motion)


def column(values: Floats) -> Floats:
    """[n, 1]."""
    return values[:, None]


def _head(identity: Identity, motion: Motion) -> Outlines:
    """Jaw from the left temple over the chin to the right one (33 points; AU26 drops it), and the whole head."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 33)
    square = column(identity.jaw_square)
    across = np.sign(angle) * np.abs(np.sin(angle)) ** (1.12 - 0.34 * square)
    down = np.clip(np.cos(angle), 0, 1) ** (1 - 0.2 * square)
    drop = 0.32 * motion.unit(26) + 0.03 * motion.unit(25) - 0.03 * motion.unit(17)
    width = column(identity.face_width)
    jaw = join(width * across, column(identity.face_length) * down + drop * down**3)
    crown = np.linspace(0, np.pi, 25)[1:-1]
    top = join(width * np.cos(crown), -column(identity.cranium) * np.sin(crown) ** 0.9)
    return {"jaw": jaw, "head": np.concatenate([jaw, top], axis=1)}


def _brow(identity: Identity, motion: Motion, *, name: str, side: int) -> Outlines:
    """AU1 raises the inner end, AU2 the outer one, AU4 lowers and draws together, AU9 pulls the inner end down."""
    out = np.linspace(0, 1, 9)  # from the inner to the outer end
    raise_in, raise_out, lower = (motion.unit(number, side=side) for number in (1, 2, 4))
    inner_x = 0.18 - 0.07 * lower + 0.02 * raise_in
    x = inner_x + column(identity.brow_length) * out
    arch = column(identity.brow_arch) + 0.03 * raise_out
    y = -column(identity.brow_height) - arch * 4 * out * (1 - out) + column(identity.brow_tilt) * (1 - 2 * out)
    y = y - 0.25 * raise_in * (1 - out) ** 1.3 - 0.21 * raise_out * out**0.9
    y = y + 0.17 * lower * (1 - 0.55 * out) + 0.06 * motion.unit(9) * (1 - out) ** 2
    curve = join(side * x, y)
    thickness = column(identity.brow_thickness)
    return {f"brow_{name}": curve, f"brow_{name}_hair": strip(curve, width=thickness, taper=0.6)}


def _eye(identity: Identity, motion: Motion, *, name: str, side: int) -> Outlines:
    """AU5 widens, AU7 and AU6 narrow from below, AU1 with AU4 lets the outer lid droop."""
    across = np.linspace(-1, 1, 13)  # left to right in the picture
    widen, cheek, tighten, wrinkle = (motion.unit(number, side=side) for number in (5, 6, 7, 9))
    droop = 0.4 * motion.unit(1, side=side) * motion.unit(4, side=side)
    opening = column(identity.eye_open)
    up = opening * (1 + 0.7 * widen - 0.42 * tighten - 0.18 * cheek - 0.25 * wrinkle - 0.2 * droop)
    up = np.maximum(up * (1 - motion.blink[:, None]), 0.012)
    down = opening * (0.62 + 0.12 * widen - 0.42 * tighten - 0.6 * cheek - 0.25 * wrinkle)
    down = np.maximum(down, -0.4 * up)
    width, center = column(identity.eye_width), side * column(identity.eye_distance)
    tilt = column(identity.eye_tilt)

    def lid(place: Floats, height: Floats, power: float) -> Floats:
        level = -tilt * side * place
        return np.asarray(level + height * np.clip(1 - place**2, 0, 1) ** power * (1 - droop * side * place))

    def between_lids(points: Floats) -> Floats:
        place = np.clip((points[..., 0] - center) / width, -1, 1)
        y = np.clip(points[..., 1], lid(place, -up, 0.7), lid(place, down, 0.9))
        return join(center + width * place, y)

    upper = join(center + width * across, lid(across[None], -up, 0.7))
    lower = join(center + width * across, lid(across[None], down, 0.9))
    pupil_x = center + 0.09 * column(np.clip(motion.gaze_x, -1, 1))
    pupil_y = -0.015 + 0.03 * column(np.clip(motion.gaze_y, -1, 1))
    crease = upper + np.array([0, -0.045])
    return {
        f"lid_{name}_upper": upper,
        f"lid_{name}_lower": lower,
        f"eye_{name}": ring(upper, lower),
        f"iris_{name}": between_lids(ellipse(pupil_x, pupil_y, radius_x=0.11, radius_y=0.11)),
        f"pupil_{name}": between_lids(ellipse(pupil_x, pupil_y, radius_x=0.048, radius_y=0.048, points=10)),
        f"glint_{name}": between_lids(ellipse(pupil_x - 0.035, pupil_y - 0.04, radius_x=0.02, radius_y=0.02, points=8)),
        f"lash_{name}": strip(upper, width=np.full_like(up, 0.038), taper=0.4),
        f"under_{name}": strip(lower, width=np.full_like(up, 0.016), taper=0.3),
        f"crease_{name}": strip(crease[:, 2:-2], width=np.full_like(up, 0.02)),
    }


def _nose(identity: Identity, motion: Motion) -> Outlines:
    """AU9 shortens and widens it, AU10 lifts the wings, AU12 spreads them."""
    wrinkle, upper_lip, smile = (motion.unit(number) for number in (9, 10, 12))
    length = column(identity.nose_length) - 0.05 * wrinkle
    width = column(identity.nose_width) * (1 + 0.14 * wrinkle + 0.1 * smile + 0.05 * upper_lip)
    bridge = join(np.zeros((1, 4)), 0.02 + (0.82 * length - 0.02) * np.linspace(0, 1, 4))
    across = np.linspace(-1, 1, 5)
    lift = 0.05 * wrinkle + 0.03 * upper_lip
    base = join(width * across, length + 0.035 * (1 - across**2) - lift * across**2)
    wing_x, wing_y = width * 0.5, length - 0.3 * lift
    line = strip(base, width=0.022 + 0 * length, taper=0.5)
    side_x, side_y = np.array([0.25, 0.3, 0.62, 1.0, 0.9, 0.3]), np.array([0.1, 0.5, 0.72, 0.88, 1.0, 0.85])
    outlines = {"nose_bridge": bridge, "nose_base": base, "nose_base_line": line}
    for name, side in SIDES.items():
        outlines[f"nostril_{name}"] = ellipse(side * wing_x, wing_y, radius_x=0.3 * width, radius_y=0.028, points=10)
        outlines[f"nose_side_{name}"] = join(side * width * side_x, length * side_y)
    return outlines


def _mouth(identity: Identity, motion: Motion) -> Outlines:
    """AU12 and AU15 pull the corners up and down, 20 sideways; 10 raises the upper lip, 17 the lower one; 23 and 24
    make the lips thin; 25 parts them; 26 takes the lower lip down with the jaw."""
    upper_raise, chin, stretch, tight, press, part, drop = (motion.unit(n) for n in (10, 17, 20, 23, 24, 25, 26))
    closed = 1 - 0.85 * np.maximum(tight * 0.7, press)
    thin = 1 - 0.7 * press - 0.45 * tight
    line = column(identity.mouth_y) - 0.045 * chin - 0.03 * upper_raise + 0.04 * drop
    outer, inner = np.linspace(-1, 1, 13), 0.88 * np.linspace(-1, 1, 13)
    shape = 0.65 - 0.33 * stretch  # a stretched mouth is a box
    gap_up = (0.035 * part + 0.03 * drop) * closed + 0.03 * upper_raise * part
    gap_low = ((0.1 * part + 0.33 * drop) * closed) * (1 - 0.3 * chin)
    lift = 0.11 * upper_raise * np.clip(1 - outer**2, 0, 1) ** 0.4
    bow = np.clip(1 - np.abs(outer) ** 2.2, 0, 1) * (1 - 0.3 * np.exp(-((outer / 0.16) ** 2)))
    upper = column(identity.lip_upper) * thin * (1 - 0.25 * motion.unit(12)) * bow
    lower = column(identity.lip_lower) * thin * (1 + 0.25 * chin) * (1 - 0.2 * motion.unit(12))

    def curve(place: Floats, rise: Floats) -> Floats:
        x, y = _mouth_line(identity, motion, place)
        return join(x, line + y + rise)

    hollow = np.clip(1 - (inner / 0.88) ** 2, 0, 1) ** shape
    lip = {
        "lip_outer_upper": curve(outer, -gap_up * np.clip(1 - outer**2, 0, 1) ** shape - lift - upper),
        "lip_outer_lower": curve(outer, (gap_low + lower) * np.clip(1 - outer**2, 0, 1) ** np.minimum(shape, 0.6)),
        "lip_inner_upper": curve(inner, -(gap_up + 0.6 * lift) * hollow),
        "lip_inner_lower": curve(inner, gap_low * hollow),
    }
    return lip | _mouth_shapes(lip)


def _mouth_shapes(lip: Outlines) -> Outlines:
    """What is filled: both lips, the opening, and the teeth and the tongue in it."""
    upper, lower = lip["lip_inner_upper"], lip["lip_inner_lower"]
    x = upper[..., 0]
    teeth = join(x, np.minimum(upper[..., 1] + 0.075, lower[..., 1]))
    tongue = join(x, np.minimum(np.maximum(lower[..., 1] - 0.09, upper[..., 1] + 0.1), lower[..., 1]))
    return {
        "lip_upper": ring(lip["lip_outer_upper"], upper),
        "lip_lower": ring(lip["lip_outer_lower"], lower),
        "mouth": ring(upper, lower),
        "teeth": ring(upper[:, 1:-1], teeth[:, 1:-1]),
        "tongue": ring(tongue[:, 3:-3], lower[:, 3:-3]),
        "mouth_line": strip(upper, width=np.full((len(x), 1), 0.026), taper=0.5),
    }


def _mouth_line(identity: Identity, motion: Motion, place: Floats) -> tuple[Floats, Floats]:
    """x, and y below the middle, of the line between the lips at `place` (-1..1)."""
    x, y = np.zeros((len(identity), len(place))), np.zeros((len(identity), len(place)))
    for side in SIDES.values():
        pull, depress, stretch = (motion.unit(number, side=side) for number in (12, 15, 20))
        narrow = 0.14 * motion.unit(24) + 0.1 * motion.unit(23) + 0.14 * motion.unit(26)
        half = column(identity.mouth_width) * (1 + 0.3 * pull + 0.36 * stretch - narrow + 0.04 * depress)
        corner = -column(identity.mouth_curve) - 0.24 * pull + 0.22 * depress + 0.05 * stretch
        corner = corner + 0.09 * motion.unit(26) - 0.02 * motion.unit(10)
        here = (place * side > 0)[None]
        x = np.where(here, half * place, x)
        y = np.where(here, corner * np.abs(place) ** 1.6 + 0.02 * depress - 0.02 * pull, y)
    middle = 0.02 * motion.unit(15) - 0.02 * motion.unit(12)
    return x, np.where((place == 0)[None], middle, y)
