"""What a generated face does: facial action units per emotion, their strength, and the labels that follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.domains import Domain
from trainables.data.faces.draws import Draws, Floats
from trainables.data.labels import ACTION_UNITS

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""The six classes in the order of the LSD set."""

DRAWN_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 17, 20, 23, 24, 25, 26)
"""Action units that move the drawn face: the twelve labelled ones, and 5 (upper lid raiser), 9 (nose wrinkler), 17
(chin raiser) and 20 (lip stretcher), without which fear, disgust and sadness would not look like themselves."""

PROTOTYPES: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "anger": {
        4: (1.0, 0.9),
        7: (0.9, 0.8),
        5: (0.3, 0.4),
        23: (0.55, 0.8),
        24: (0.6, 0.8),
        10: (0.26, 0.5),
        17: (0.5, 0.5),
        25: (0.18, 0.6),
    },
    "disgust": {
        10: (0.9, 0.9),
        9: (0.85, 0.9),
        17: (0.6, 0.6),
        15: (0.4, 0.5),
        4: (0.45, 0.6),
        7: (0.5, 0.6),
        6: (0.25, 0.4),
        24: (0.2, 0.4),
        25: (0.3, 0.5),
    },
    "fear": {
        1: (1.0, 0.95),
        4: (0.95, 0.65),
        20: (0.95, 1.0),
        25: (0.95, 0.75),
        2: (0.57, 0.5),
        5: (0.8, 0.9),
        26: (0.33, 0.4),
        7: (0.2, 0.4),
    },
    "happiness": {12: (1.0, 0.9), 6: (0.75, 0.8), 25: (0.75, 0.8), 26: (0.2, 0.45), 7: (0.1, 0.4)},
    "sadness": {
        15: (0.95, 0.85),
        4: (0.8, 0.55),
        1: (0.85, 0.85),
        17: (0.6, 0.6),
        6: (0.2, 0.35),
        7: (0.2, 0.4),
        25: (0.1, 0.3),
    },
    "surprise": {1: (1.0, 0.85), 2: (1.0, 0.95), 25: (1.0, 0.8), 26: (0.9, 0.9), 5: (0.7, 0.8), 12: (0.06, 0.3)},
}
"""Emotion to {action unit: (share of people who show it, usual strength 0..1)}.

Source: the prototypes are those of FACS and EMFACS (Ekman and Friesen 1978; Friesen and Ekman 1983): happiness 6+12
(+25), sadness 1+4+15 (+17), surprise 1+2+5+25+26, fear 1+2+4+5+20+25 (+26), anger 4+5+7+23/24, disgust 9/10+15/17.
That not everybody shows every unit, and roughly how often, is after Du, Tao and Martinez 2014 (PNAS 111:E1454, table
1); strengths, and the rarer units, are ours.
"""

CIRCUMPLEX: Mapping[str, tuple[float, float]] = {
    "anger": (-0.6, 0.7), "disgust": (-0.7, 0.35), "fear": (-0.6, 0.8), "happiness": (0.85, 0.45),
    "sadness": (-0.75, -0.4), "surprise": (0.2, 0.85),
}  # fmt: skip
"""Emotion to (valence, arousal) at full strength, after the circumplex of Russell 1980; the numbers are ours."""

_PRESENT = 0.2
"""An action unit is labelled as shown from this strength on, about FACS's intensity A to B."""

_SHARES = np.array([[PROTOTYPES[name].get(unit, (0, 0))[0] for unit in DRAWN_UNITS] for name in EXPRESSIONS])
_STRENGTHS = np.array([[PROTOTYPES[name].get(unit, (0, 0))[1] for unit in DRAWN_UNITS] for name in EXPRESSIONS])
_PLACES = np.array([CIRCUMPLEX[name] for name in EXPRESSIONS])
_LABELLED = [DRAWN_UNITS.index(unit) for unit in ACTION_UNITS]


@dataclass(frozen=True, eq=False)
class Motion:
    """How n faces move. `units` is [n, 16] in 0..1 in the order of DRAWN_UNITS; the other fields are [n].

    `lopsided` is how much stronger the right half of the picture moves (-0.3..0.3), `gaze_x` and `gaze_y` where the
    eyes look (-1..1), `blink` how far the lids are closed (0..1).
    """

    units: Floats
    lopsided: Floats
    gaze_x: Floats
    gaze_y: Floats
    blink: Floats

    def unit(self, number: int, *, side: int = 0) -> Floats:
        """[n, 1]: strength of an action unit; on the left half (-1), the right one (1) or on average (0)."""
        strength = self.units[:, DRAWN_UNITS.index(number)]
        return np.asarray(np.clip(strength * (1 + side * self.lopsided), 0, 1)[:, None])


@dataclass(frozen=True, eq=False)
class Affect:
    """Labels of n faces: valence and arousal float32 [n] in -1..1; action units int8 [n, 12], 0 or 1."""

    valence: NDArray[np.float32]
    arousal: NDArray[np.float32]
    action_units: NDArray[np.int8]


def draw_motion(expression: NDArray[np.int8], *, draws: Draws, domain: Domain) -> tuple[Motion, Affect]:
    """Move faces towards their expression, some of them towards a second one as well.

    Args:
        expression: [n], indices of EXPRESSIONS: the dominant one.
        draws: the faces' own randomness; always the same number of columns is read.
        domain: how strong and how mixed expressions are.
    """
    level = draws.uniform(*domain.strength)
    second = (expression + 1 + draws.pick([0.2] * 5)) % len(EXPRESSIONS)
    weight = np.where(draws.chance(domain.mixed_share), draws.uniform(*domain.mixture), 0)  # of the second: below 0.5
    main_units = _draw_units(expression, draws)
    second_units = _draw_units(second, draws)
    stray = _draw_stray(draws, domain)
    both = main_units * (1 - weight)[:, None] + second_units * weight[:, None]
    units = np.clip(np.maximum(both * level[:, None], stray), 0, 1)
    motion = Motion(
        units=units,
        lopsided=draws.normal(domain.lopsided),
        gaze_x=draws.normal(0.3),
        gaze_y=draws.normal(0.2),
        blink=np.where(draws.chance(domain.blink_share), draws.uniform(0.3, 0.85), 0),
    )
    place = _PLACES[expression] * (1 - weight)[:, None] + _PLACES[second] * weight[:, None]
    place = place * (0.25 + 0.75 * level)[:, None] + np.stack([draws.normal(0.04), draws.normal(0.04)], axis=1)
    place = np.clip(place, -1, 1).astype(np.float32)
    shown = (units[:, _LABELLED] >= _PRESENT).astype(np.int8)
    return motion, Affect(valence=place[:, 0], arousal=place[:, 1], action_units=shown)


def _draw_stray(draws: Draws, domain: Domain) -> Floats:
    """[n, 16]: movements that have nothing to do with the expression."""
    moves = [draws.uniform(0, domain.stray_strength) * draws.chance(domain.stray_share) for _ in DRAWN_UNITS]
    return np.stack(moves, axis=1)


def _draw_units(expression: NDArray[np.int8], draws: Draws) -> Floats:
    """[n, 16]: which units a person uses for an emotion, and how strongly, at full level."""
    used = np.stack([draws.chance(_SHARES[expression, column]) for column in range(len(DRAWN_UNITS))], axis=1)
    variation = np.stack([draws.uniform(0.75, 1.25) for _ in DRAWN_UNITS], axis=1)
    return np.asarray(used * _STRENGTHS[expression] * variation)
