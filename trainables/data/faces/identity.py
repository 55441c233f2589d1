"""Who a generated face is: measures and colours that stay when the expression changes.

Lengths are in face units: half the width of an average face. x grows to the right of the image, y downwards, z
towards the viewer; the origin lies between the eyes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.draws import Draws, Floats, build_generators

HAIR_STYLES = ("bald", "short", "fringe", "long", "parted")
BEARDS = ("none", "stubble", "moustache", "full")

_SKINS = np.array([(98, 66, 50), (136, 94, 68), (172, 126, 96), (214, 168, 136), (240, 206, 182)], np.float64)
_HAIRS = np.array([(24, 20, 20), (62, 42, 30), (112, 76, 48), (198, 164, 108), (150, 80, 46), (158, 156, 154)], float)
_IRISES = np.array([(52, 34, 24), (92, 62, 36), (70, 92, 60), (72, 104, 140), (96, 110, 116)], np.float64)

_COLUMNS = 64
_STREAM = 0
"""First number of an identity's key after the seed; a face's key starts with another."""


@dataclass(frozen=True, eq=False)
class Identity:
    """Measures of n people: every field is [n], colours [n, 3] in 0..255 (red, green, blue)."""

    face_width: Floats
    face_length: Floats
    jaw_square: Floats
    cranium: Floats
    eye_distance: Floats
    eye_width: Floats
    eye_open: Floats
    eye_tilt: Floats
    brow_height: Floats
    brow_length: Floats
    brow_thickness: Floats
    brow_arch: Floats
    brow_tilt: Floats
    nose_length: Floats
    nose_width: Floats
    mouth_y: Floats
    mouth_width: Floats
    mouth_curve: Floats
    lip_upper: Floats
    lip_lower: Floats
    wrinkles: Floats
    hair_line: Floats
    skin: Floats
    hair: Floats
    brow: Floats
    iris: Floats
    lips: Floats
    shirt: Floats
    hair_style: NDArray[np.int64]
    beard: NDArray[np.int64]
    glasses: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.face_width)

    def take(self, rows: NDArray[np.int64]) -> "Identity":
        """The people in these rows, in this order; a row may come several times."""
        return Identity(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def subject_name(number: int) -> str:
    """The `subject` of a face table: synth-000123."""
    return f"synth-{number:06d}"


def draw_identities(numbers: Sequence[int], *, seed: int) -> Identity:
    """The people with these numbers. A person depends on the seed and the number alone."""
    draws = Draws(build_generators([(seed, _STREAM, int(number)) for number in numbers]), columns=_COLUMNS)
    masculine = draws.chance(0.5).astype(np.float64)
    skin = _blend(_SKINS, draws.unit()) * (1 + draws.normal(0.03)[:, None])
    hair = _pick_colour(_HAIRS, draws, spread=0.12)
    lip_tint = draws.uniform(0.25, 0.75 - 0.3 * masculine)[:, None]
    return Identity(
        face_width=1 + draws.normal(0.045),
        face_length=1.34 + draws.normal(0.065),
        jaw_square=draws.uniform(0, 0.6) + 0.4 * masculine,
        cranium=0.95 + draws.normal(0.05),
        eye_distance=0.44 + draws.normal(0.028),
        eye_width=0.25 + draws.normal(0.018),
        eye_open=0.12 + draws.normal(0.016),
        eye_tilt=draws.normal(0.022),
        brow_height=0.32 + draws.normal(0.032) - 0.02 * masculine,
        brow_length=0.44 + draws.normal(0.035),
        brow_thickness=draws.uniform(0.05, 0.085) + 0.02 * masculine,
        brow_arch=draws.uniform(0.01, 0.075),
        brow_tilt=draws.normal(0.022),
        nose_length=0.56 + draws.normal(0.035),
        nose_width=0.19 + draws.normal(0.022),
        mouth_y=0.85 + draws.normal(0.03),
        mouth_width=0.4 + draws.normal(0.03),
        mouth_curve=draws.normal(0.02),
        lip_upper=0.065 + draws.normal(0.012),
        lip_lower=0.085 + draws.normal(0.014),
        wrinkles=draws.uniform(0.25, 1) ** 1.5,
        hair_line=0.72 + draws.normal(0.06),
        skin=np.clip(skin, 0, 255),
        hair=hair,
        brow=0.4 * hair + 0.22 * skin,
        iris=_pick_colour(_IRISES, draws, spread=0.1),
        lips=np.clip(skin * (1 - lip_tint) + lip_tint * np.array([176, 62, 70]), 0, 255),
        shirt=np.stack([draws.uniform(20, 230) for _ in range(3)], axis=1),
        hair_style=draws.pick([0.1, 0.3, 0.2, 0.22, 0.18]),
        beard=np.where(masculine > 0, draws.pick([0.5, 0.2, 0.13, 0.17]), 0),
        glasses=draws.chance(0.14),
    )


def _blend(palette: Floats, place: Floats) -> Floats:
    """[n, 3]: colours between those of a palette that is ordered; place 0..1."""
    steps = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(place, steps, palette[:, channel]) for channel in range(3)], axis=1)


def _pick_colour(palette: Floats, draws: Draws, *, spread: float) -> Floats:
    index = draws.pick([1 / len(palette)] * len(palette))
    return np.clip(palette[index] * (1 + draws.normal(spread)[:, None]), 0, 255)
