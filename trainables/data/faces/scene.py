"""The order in which a generated face is painted, and its colours."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.adornments import BEHIND, build_adornments, build_folds
from trainables.data.faces.covers import Covers
from trainables.data.faces.draws import Draws, Floats
from trainables.data.faces.expression import Motion
from trainables.data.faces.geometry import SIDES, Outlines, build_outlines
from trainables.data.faces.identity import BEARDS, HAIR_STYLES, Identity
from trainables.data.faces.landmarks import read_landmarks
from trainables.data.faces.pose import Pose, place, turn

Shown = NDArray[np.bool_]

_EYE_WHITE = np.array([236.0, 234.0, 228.0])
_TEETH = np.array([240.0, 238.0, 230.0])
_TONGUE = np.array([178.0, 84.0, 88.0])
_THROAT = np.array([62.0, 22.0, 26.0])
_FRAME = np.array([40.0, 36.0, 38.0])


@dataclass(frozen=True, eq=False)
class Layer:
    """One shape in n pictures: outlines [n, k, 2] in 0..1 of the picture, colour [n, 3], and where it is drawn at all.

    The shape of a fold has no colour: `darkness` [n] in 0..1 says how much light it takes.
    """

    outline: Floats
    colour: Floats
    shown: Shown


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything to paint: `skin` first, then the `folds` of the skin as soft shadows, then what lies `above` it."""

    skin: list[Layer]
    folds: list[Layer]
    above: list[Layer]
    landmarks: Floats
    background: Floats


def build_scene(
    identity: Identity, motion: Motion, *, pose: Pose, covers: Covers, draws: Draws, clutter: bool
) -> Scene:
    """Put everything together, turn it and bring it into the picture."""
    outlines = build_outlines(identity, motion)
    folds = build_folds(identity, motion, outlines)
    everything = outlines | build_adornments(identity, outlines) | covers.outlines
    everything |= {f"fold_{name}": outline for name, (outline, _) in folds.items()}
    seen = _project(everything, pose)
    landmarks = read_landmarks(seen)
    always = np.ones(len(identity), np.bool_)
    dark = [Layer(seen[f"fold_{name}"], np.repeat(255 * d[:, None], 3, 1), d > 0.04) for name, (_, d) in folds.items()]
    background, things = _surroundings(draws, clutter=clutter)
    return Scene(
        skin=[Layer(shape, colour, always) for shape, colour in things] + _skin(seen, identity),
        folds=dark,
        above=_features(seen, identity) + _hands(seen, identity, covers) + _occluders(seen, covers),
        landmarks=landmarks,
        background=background,
    )


def _project(outlines: Outlines, pose: Pose) -> Outlines:
    """All outlines at once, from face units to 0..1 of the picture."""
    groups = [[name for name in outlines if (name in BEHIND) == behind] for behind in (False, True)]
    turned: Outlines = {}
    for behind, names in zip((False, True), groups, strict=True):
        points = turn(np.concatenate([outlines[name] for name in names], axis=1), pose, behind=behind)
        ends = np.cumsum([outlines[name].shape[1] for name in names])[:-1]
        turned |= dict(zip(names, np.split(points, ends, axis=1), strict=True))
    factor, offset = place(read_landmarks(turned), pose)
    return {name: points * factor + offset for name, points in turned.items()}


def _surroundings(draws: Draws, *, clutter: bool) -> tuple[Floats, list[tuple[Floats, Floats]]]:
    """Colour of the background [n, 3], and the shapes in front of it: a few where there is clutter."""
    tone = np.stack([draws.uniform(60, 225) for _ in range(3)], axis=1)
    things = []
    for _ in range(4):
        x, y, angle = draws.uniform(0, 1)[:, None], draws.uniform(0, 1)[:, None], draws.uniform(0, np.pi)[:, None]
        long, wide = draws.uniform(0.15, 0.6)[:, None], draws.uniform(0.05, 0.3)[:, None]
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        u, v = corners[:, 0] * long, corners[:, 1] * wide
        cos, sin = np.cos(angle), np.sin(angle)
        things.append((np.stack([x + u * cos - v * sin, y + u * sin + v * cos], axis=-1), _muted(draws)))
    calm = 0.35 * tone + 0.65 * 185
    return (tone, things) if clutter else (calm, [])


def _muted(draws: Draws) -> Floats:
    """[n, 3]: a colour of the kind that rooms have."""
    grey = draws.uniform(20, 235)[:, None]
    return 0.55 * grey + 0.45 * np.stack([draws.uniform(10, 245) for _ in range(3)], axis=1)


def _skin(seen: Outlines, identity: Identity) -> list[Layer]:
    always = np.ones(len(identity), np.bool_)
    long_hair = identity.hair_style == HAIR_STYLES.index("long")
    beard = identity.beard
    grown = np.where(beard == BEARDS.index("full"), 0.75, 0.28)[:, None]
    layers = [
        Layer(seen["hair_back"], identity.hair * 0.8, long_hair),
        Layer(seen["neck"], identity.skin * 0.8, always),
        Layer(seen["shirt"], identity.shirt, always),
        *(Layer(seen[f"ear_{name}"], identity.skin * 0.9, ~long_hair) for name in SIDES),
        Layer(seen["head"], identity.skin, always),
        Layer(seen["beard"], identity.skin * (1 - grown) + identity.hair * grown,
              np.isin(beard, [BEARDS.index("stubble"), BEARDS.index("full")])),
    ]  # fmt: skip
    return layers


def _features(seen: Outlines, identity: Identity) -> list[Layer]:
    always = np.ones(len(identity), np.bool_)
    n = len(identity)
    deep, lash = identity.skin * 0.45, np.tile([30.0, 22.0, 20.0], (n, 1))
    layers = [Layer(seen["nose_base_line"], identity.skin * 0.68, always)]
    for name in SIDES:
        layers += [
            Layer(seen[f"nostril_{name}"], deep, always),
            Layer(seen[f"crease_{name}"], identity.skin * 0.74, always),
            Layer(seen[f"eye_{name}"], np.tile(_EYE_WHITE, (n, 1)), always),
            Layer(seen[f"iris_{name}"], identity.iris, always),
            Layer(seen[f"pupil_{name}"], np.full((n, 3), 14.0), always),
            Layer(seen[f"glint_{name}"], np.full((n, 3), 250.0), always),
            Layer(seen[f"under_{name}"], identity.skin * 0.62, always),
            Layer(seen[f"lash_{name}"], lash, always),
            Layer(seen[f"brow_{name}_hair"], identity.brow, always),
        ]
    layers += [
        Layer(seen["mouth"], np.tile(_THROAT, (n, 1)), always),
        Layer(seen["tongue"], np.tile(_TONGUE, (n, 1)), always),
        Layer(seen["teeth"], np.tile(_TEETH, (n, 1)), always),
        Layer(seen["lip_upper"], identity.lips * 0.92, always),
        Layer(seen["lip_lower"], identity.lips, always),
        Layer(seen["mouth_line"], identity.lips * 0.45, always),
        Layer(seen["moustache"], identity.hair, identity.beard >= BEARDS.index("moustache")),
        Layer(seen["hair"], identity.hair, identity.hair_style != HAIR_STYLES.index("bald")),
    ]
    frame = np.tile(_FRAME, (n, 1))
    for name in SIDES:
        rim = np.concatenate([seen[f"glasses_{name}"], seen[f"glasses_{name}"][:, :1]], axis=1)
        hole = np.concatenate([seen[f"lens_{name}"], seen[f"lens_{name}"][:, :1]], axis=1)
        layers.append(Layer(np.concatenate([rim, hole[:, ::-1]], axis=1), frame, identity.glasses))
    layers.append(Layer(seen["glasses_bridge"], frame, identity.glasses))
    return layers


def _hands(seen: Outlines, identity: Identity, covers: Covers) -> list[Layer]:
    layers = []
    for prefix, shown in (("hand", covers.has_hand), ("second_hand", covers.has_second_hand)):
        for part in ("palm", "thumb", *(f"finger_{number}" for number in range(4))):
            layers.append(Layer(seen[f"{prefix}_{part}_rim"], identity.skin * 0.55, shown))
            layers.append(Layer(seen[f"{prefix}_{part}"], identity.skin * 0.95, shown))
    return layers


def _occluders(seen: Outlines, covers: Covers) -> list[Layer]:
    dark = covers.colour * 0.25
    layers = [
        Layer(seen["scarf"], covers.colour, covers.shows("scarf")),
        Layer(seen["microphone_stem"], dark, covers.shows("microphone")),
        Layer(seen["microphone"], dark * 0.7, covers.shows("microphone")),
        Layer(seen["shoulder"], covers.colour, covers.shows("shoulder")),
    ]
    names = ("sunglasses_left", "sunglasses_right", "sunglasses_bridge")
    return layers + [Layer(seen[name], dark, covers.shows("sunglasses")) for name in names]
