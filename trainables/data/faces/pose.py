"""How a generated face is seen: turned, moved and projected onto the picture."""

from dataclasses import dataclass

import numpy as np

from trainables.data.faces.domains import Domain
from trainables.data.faces.draws import Draws, Floats

_MIDDLE_Y = 0.4
"""Height of the middle of a face below its eyes, in face units; it comes to the middle of the picture."""

_MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class Pose:
    """Angles in radians, each [n]; `scale` in parts of the image a face unit, shifts in parts of the image."""

    yaw: Floats
    pitch: Floats
    roll: Floats
    scale: Floats
    shift_x: Floats
    shift_y: Floats


def draw_pose(draws: Draws, domain: Domain) -> Pose:
    """Ten columns of randomness."""
    return Pose(
        yaw=np.radians(draws.normal(domain.yaw)),
        pitch=np.radians(draws.normal(domain.pitch)),
        roll=np.radians(draws.normal(domain.roll)),
        scale=draws.uniform(*domain.scale),
        shift_x=draws.normal(domain.shift),
        shift_y=draws.normal(domain.shift),
    )


def depth(points: Floats, *, behind: bool = False) -> Floats:
    """[n, k]: how far points of the face stand out: a rounded head with a nose. `behind`: hair, neck and the like."""
    x, y = points[..., 0], points[..., 1]
    if behind:
        return np.full(x.shape, -0.3)
    head = 0.5 * np.sqrt(np.clip(1 - (x / 1.08) ** 2, 0, 1))
    nose = 0.24 * np.exp(-((x / 0.2) ** 2) - ((y - 0.45) / 0.28) ** 2)
    return np.asarray(head + nose)


def turn(points: Floats, pose: Pose, *, behind: bool = False) -> Floats:
    """[n, k, 2] in face units to parts of the image around its middle, before `Pose.shift_*`. Weak perspective."""
    x, y, z = points[..., 0], points[..., 1] - _MIDDLE_Y, depth(points, behind=behind)
    yaw, pitch, roll = (angle[:, None] for angle in (pose.yaw, pose.pitch, pose.roll))
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    y = y * np.cos(pitch) - (z - 0.3) * np.sin(pitch)
    turned = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], axis=-1)
    return np.asarray(turned * pose.scale[:, None, None])


def place(landmarks: Floats, pose: Pose) -> tuple[Floats, Floats]:
    """Factor [n, 1, 1] and offset [n, 1, 2] that bring turned points into the picture, in 0..1.

    A face is made smaller or moved where its landmarks would leave the picture, so that labels stay exact and inside.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)  # [n, 2]
    factor = np.minimum(1, (1 - 2 * _MARGIN) / (high - low).max(axis=1))[:, None]
    wanted = 0.5 + np.stack([pose.shift_x, pose.shift_y], axis=1)
    offset = np.clip(wanted, _MARGIN - low * factor, 1 - _MARGIN - high * factor)
    return factor[:, :, None], offset[:, None, :]
