"""What hides a part of a generated face: hands, glasses against the sun, scarves, microphones, other people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.domains import Domain
from trainables.data.faces.draws import Draws, Floats
from trainables.data.faces.geometry import Outlines
from trainables.data.faces.shapes import ellipse, join, strip, stroke

FINGERS = ((-0.27, 0.40), (-0.09, 0.50), (0.09, 0.47), (0.27, 0.36))
"""Where the fingers of a hand begin, and how long they are, in face units."""

_PLACES = {
    "mouth": ((-0.05, 0.92, -1.3), (0.2, 1.12, -0.5)),
    "cheek": ((0.68, 0.75, -0.25), (0.82, 0.95, 0.3)),
    "brow": ((0.2, -0.75, -1.9), (0.5, -0.5, -1.2)),
}
"""Where a hand lies on the right side: lowest and highest x and y of the palm, and angle in radians (0: fingers up)."""

_OCCLUDERS = ("none", "sunglasses", "scarf", "microphone", "shoulder")


@dataclass(frozen=True, eq=False)
class Covers:
    """Outlines of hands and occluders in face units, who has them, and the occluders' colour [n, 3]."""

    outlines: Outlines
    has_hand: NDArray[np.bool_]
    has_second_hand: NDArray[np.bool_]
    occluder: NDArray[np.int64]
    colour: Floats

    def shows(self, occluder: str) -> NDArray[np.bool_]:
        """[n]: who has this occluder."""
        return np.asarray(self.occluder == _OCCLUDERS.index(occluder))


def draw_covers(expression: NDArray[np.int8], *, draws: Draws, domain: Domain) -> Covers:
    """Hands are more frequent in fear (Miao et al. 2022), by `Domain.hand_share`."""
    has_hand = draws.chance(np.asarray(domain.hand_share)[expression])
    place = draws.pick([0.4, 0.42, 0.18])
    side = np.where(draws.chance(0.5), 1.0, -1.0)
    low, high = (np.array(ends).T[:, place] for ends in zip(*_PLACES.values(), strict=True))  # [x, y, angle; faces]
    x, y, angle = (draws.uniform(low[number], high[number]) for number in range(3))
    x, angle = side * x, side * angle
    size, spread = draws.uniform(0.85, 1.05), draws.uniform(0.02, 0.22)
    outlines = _hand("hand", x=x, y=y, angle=angle, size=size, spread=spread, side=side)
    outlines |= _hand("second_hand", x=-x, y=y, angle=-angle, size=size, spread=spread, side=-side)
    occluded = draws.chance(domain.occluded_share)
    occluder = np.where(occluded, 1 + draws.pick([0.25, 0.25, 0.25, 0.25]), 0)
    return Covers(
        outlines=outlines | _occluders(draws),
        has_hand=has_hand,
        has_second_hand=has_hand & (place == list(_PLACES).index("cheek")) & draws.chance(0.6),
        occluder=occluder,
        colour=np.stack([draws.uniform(10, 220) for _ in range(3)], axis=1),
    )


def _hand(prefix: str, *, x: Floats, y: Floats, angle: Floats, size: Floats, spread: Floats, side: Floats) -> Outlines:
    """A palm, a thumb and four fingers, each with a rim around it. All arguments are [n]."""
    n = len(x)
    zero = np.zeros((n, 1))
    parts = {"palm": ellipse(zero, zero + 0.08, radius_x=0.4, radius_y=0.42)}
    thumb = stroke((0.3 * side[:, None], zero + 0.1), (0.56 * side[:, None], zero - 0.22))
    parts["thumb"] = strip(thumb, width=zero + 0.2, taper=0.3)
    for number, (start, length) in enumerate(FINGERS):
        tip_x = start + spread[:, None] * start / 0.27
        finger = stroke((start + zero, -0.15 + zero), (tip_x, -0.3 - length + zero))
        parts[f"finger_{number}"] = strip(finger, width=zero + 0.175, taper=0.25)
    outlines = {}
    for name, outline in parts.items():
        center = outline.mean(axis=1, keepdims=True)
        rim = outline + 0.026 * (outline - center) / (np.linalg.norm(outline - center, axis=-1, keepdims=True) + 1e-9)
        outlines[f"{prefix}_{name}_rim"] = _put(rim, x=x, y=y, angle=angle, size=size)
        outlines[f"{prefix}_{name}"] = _put(outline, x=x, y=y, angle=angle, size=size)
    return outlines


def _put(outline: Floats, *, x: Floats, y: Floats, angle: Floats, size: Floats) -> Floats:
    cos, sin = (np.cos(angle) * size)[:, None], (np.sin(angle) * size)[:, None]
    u, v = outline[..., 0], outline[..., 1]
    return join(x[:, None] + cos * u - sin * v, y[:, None] + sin * u + cos * v)


def _occluders(draws: Draws) -> Outlines:
    """One of each kind; only the one that a face has is drawn."""
    rise, lean = draws.uniform(-0.06, 0.12)[:, None], draws.uniform(-0.35, 0.35)[:, None]
    zero = 0 * rise
    scarf_x = np.array([-1.15, -0.6, 0, 0.6, 1.15, 1.2, -1.2])
    scarf = join(scarf_x, 0.66 + rise + np.array([-0.1, 0.0, 0.04, 0.0, -0.1, 1.4, 1.4]))
    edge = draws.uniform(0.35, 0.75)[:, None] * np.where(draws.chance(0.5), 1, -1)[:, None]
    shoulder = join(np.sign(edge) * np.array([0, 0.25, 2.5, 2.5, 0.3]) + edge, np.array([0.5, -0.25, -0.6, 2.5, 2.5]))
    stem = stroke((0.3 + lean, 1.15 + zero), (0.5 + 2 * lean, 2.2 + zero))
    outlines = {
        "scarf": scarf,
        "shoulder": shoulder,
        "microphone_stem": strip(stem, width=zero + 0.16, taper=0),
        "microphone": ellipse(0.25 + lean, 1.05 + rise, radius_x=0.24, radius_y=0.27),
        "sunglasses_bridge": strip(stroke((zero - 0.2, zero), (zero + 0.2, zero)), width=zero + 0.07, taper=0),
    }
    for name, side in (("left", -1), ("right", 1)):
        outlines[f"sunglasses_{name}"] = ellipse(zero + side * 0.44, zero + 0.03, radius_x=0.34, radius_y=0.25)
    return outlines
