"""Generated faces with all their labels, as arrays ready for a face table."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.faces.covers import draw_covers
from trainables.data.faces.domains import DOMAINS
from trainables.data.faces.draws import Draws, build_generators
from trainables.data.faces.expression import draw_motion
from trainables.data.faces.identity import draw_identities, subject_name
from trainables.data.faces.pose import draw_pose
from trainables.data.faces.render import draw_shot, expose, paint
from trainables.data.faces.scene import build_scene
from trainables.data.table import Faces

_STREAM = 1
_COLUMNS = 256


def generate_faces(
    expression: NDArray[np.int8],
    *,
    subjects: Sequence[int],
    keys: Sequence[int],
    domain: Literal["clean", "wild"],
    seed: int,
    image_px: int = 64,
) -> Faces:
    """Draw faces and their labels. A face depends on the seed and on its own row of the arguments alone.

    Args:
        expression: int8 [n], indices of `expression.EXPRESSIONS`: the dominant expression.
        subjects: [n], numbers of the people; the same number is the same person.
        keys: [n], one number a face; another key is another picture.
        domain: posed in a studio, or in the wild.
        image_px: side of the pictures.

    Returns:
        Faces with red, green and blue, and every label of a face table; sample ids are face-KEY.
    """
    world = DOMAINS[domain]
    generators = build_generators([(seed, _STREAM, int(key)) for key in keys])
    draws = Draws(generators, columns=_COLUMNS)
    people, back = np.unique(np.asarray(subjects), return_inverse=True)
    identity = draw_identities(people.tolist(), seed=seed).take(back)
    motion, affect = draw_motion(expression, draws=draws, domain=world)
    covers = draw_covers(expression, draws=draws, domain=world)
    pose = draw_pose(draws, world)
    shot = draw_shot(draws, world)
    scene = build_scene(identity, motion, pose=pose, covers=covers, draws=draws, clutter=world.clutter)
    images = expose(paint(scene, image_px=image_px), shot, generators=generators)
    return Faces(
        images=images,
        expression=expression,
        sample_ids=[f"face-{key:08d}" for key in keys],
        subjects=[subject_name(int(number)) for number in subjects],
        valence=affect.valence,
        arousal=affect.arousal,
        action_units=affect.action_units,
        landmarks=scene.landmarks.reshape(len(expression), -1).astype(np.float32),
        hand=covers.has_hand.astype(np.int8),
    )
