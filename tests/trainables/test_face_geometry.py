"""Action units move the drawn face, and the landmarks with it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.data.faces.adornments import build_folds
from trainables.data.faces.expression import DRAWN_UNITS, Motion
from trainables.data.faces.geometry import build_outlines
from trainables.data.faces.identity import Identity, draw_identities
from trainables.data.faces.landmarks import MIRRORED, read_landmarks
from trainables.data.faces.pose import Pose, place, turn
from trainables.data.labels import ACTION_UNITS

Points = NDArray[np.float64]
N = 5


@pytest.fixture(scope="module")
def people() -> Identity:
    return draw_identities(range(N), seed=0)


def moved(**strengths: float) -> Motion:
    units = np.zeros((N, len(DRAWN_UNITS)))
    for name, strength in strengths.items():
        units[:, DRAWN_UNITS.index(int(name.removeprefix("au")))] = strength
    zero = np.zeros(N)
    return Motion(units=units, lopsided=zero, gaze_x=zero, gaze_y=zero, blink=zero)


def landmarks(people: Identity, **strengths: float) -> Points:
    return read_landmarks(build_outlines(people, moved(**strengths)))


def shift(people: Identity, **strengths: float) -> Points:
    """[n, 68, 2]: how far landmarks move from the resting face; y is positive downwards."""
    return landmarks(people, **strengths) - landmarks(people)


def test_inner_brow_raiser_raises_the_inner_ends_most(people: Identity) -> None:
    rise = -shift(people, au1=1.0)[..., 1]

    assert (rise[:, [21, 22]] > 0.1).all()
    assert (rise[:, [17, 26]] < 0.02).all()


def test_outer_brow_raiser_raises_the_outer_ends_most(people: Identity) -> None:
    rise = -shift(people, au2=1.0)[..., 1]

    assert (rise[:, [17, 26]] > 0.1).all()
    assert (rise[:, [21, 22]] < 0.02).all()


def test_brow_lowerer_lowers_brows_and_draws_them_together(people: Identity) -> None:
    move = shift(people, au4=1.0)

    assert (move[:, 17:27, 1] > 0.03).all()
    assert (move[:, 21, 0] > 0.03).all() and (move[:, 22, 0] < -0.03).all()


@pytest.mark.parametrize("unit", ["au6", "au7"])
def test_cheek_raiser_and_lid_tightener_narrow_the_eyes(people: Identity, unit: str) -> None:
    rest, squint = landmarks(people), landmarks(people, **{unit: 1.0})

    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        assert (squint[:, lower, 1] - squint[:, upper, 1] < rest[:, lower, 1] - rest[:, upper, 1] - 0.01).all()


def test_upper_lip_raiser_raises_the_upper_lip_alone(people: Identity) -> None:
    rise = -shift(people, au10=1.0)[..., 1]

    assert (rise[:, [50, 51, 52]] > 0.05).all()
    assert (rise[:, 57] < 0.05).all()


def test_lip_corner_puller_raises_the_corners_and_widens_the_mouth(people: Identity) -> None:
    move = shift(people, au12=1.0)

    assert (move[:, [48, 54], 1] < -0.1).all()
    assert (move[:, 54, 0] > 0.05).all() and (move[:, 48, 0] < -0.05).all()


def test_lip_corner_depressor_lowers_the_corners(people: Identity) -> None:
    assert (shift(people, au15=1.0)[:, [48, 54], 1] > 0.1).all()


@pytest.mark.parametrize("unit", ["au23", "au24"])
def test_tightened_or_pressed_lips_are_thin_and_narrow(people: Identity, unit: str) -> None:
    rest, pressed = landmarks(people), landmarks(people, **{unit: 1.0})

    assert (pressed[:, 57, 1] - pressed[:, 51, 1] < 0.75 * (rest[:, 57, 1] - rest[:, 51, 1])).all()
    assert (pressed[:, 54, 0] - pressed[:, 48, 0] < rest[:, 54, 0] - rest[:, 48, 0]).all()


def test_lips_part_opens_the_mouth_and_jaw_drop_lowers_the_chin(people: Identity) -> None:
    rest, parted, dropped = landmarks(people), landmarks(people, au25=1.0), landmarks(people, au25=1.0, au26=1.0)

    def opening(points: Points) -> Points:
        return np.asarray(points[:, 66, 1] - points[:, 62, 1])

    assert (opening(rest) < 0.01).all()
    assert (opening(parted) > 0.05).all()
    assert (opening(dropped) > opening(parted) + 0.15).all()
    assert (dropped[:, 8, 1] > rest[:, 8, 1] + 0.2).all()
    assert (dropped[:, 57, 1] > rest[:, 57, 1] + 0.2).all()
    assert np.allclose(dropped[:, [0, 16]], rest[:, [0, 16]])


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_labelled_action_unit_moves_landmarks_in_proportion(people: Identity, unit: int) -> None:
    half, full = (np.abs(shift(people, **{f"au{unit}": strength, "au25": 0.5})) for strength in (0.5, 1.0))
    if unit == 25:
        full = np.abs(shift(people, au25=1.0))

    assert (full.max(axis=(1, 2)) > 0.03).all()
    assert (full.max(axis=(1, 2)) >= half.max(axis=(1, 2)) - 1e-9).all()


def test_folds_darken_with_their_action_unit(people: Identity) -> None:
    def darkness(name: str, **strengths: float) -> Points:
        motion = moved(**strengths)
        return build_folds(people, motion, build_outlines(people, motion))[name][1]

    for name, unit in (("laugh_left", "au12"), ("frown_left", "au4"), ("crow_right_1", "au6"), ("forehead_0", "au1")):
        assert (darkness(name, **{unit: 1.0}) > darkness(name) + 0.1).all()


def test_landmarks_lie_in_ibug_order(people: Identity) -> None:
    points = landmarks(people, au25=0.8, au26=0.5)
    x, y = points[..., 0], points[..., 1]

    assert (np.diff(x[:, :17], axis=1) > 0).all()  # jaw from left to right, chin lowest
    assert (y[:, :17].argmax(axis=1) == 8).all()
    assert (np.diff(x[:, 17:27], axis=1) > 0).all()
    assert (np.diff(y[:, 27:31], axis=1) > 0).all()
    assert (np.diff(x[:, 31:36], axis=1) > 0).all()
    for first in (36, 42):
        assert (x[:, first] < x[:, first + 3]).all()
        assert (y[:, first + 1] < y[:, first + 5]).all() and (y[:, first + 2] < y[:, first + 4]).all()
    assert (np.diff(x[:, 48:55], axis=1) > 0).all() and (np.diff(x[:, 54:60], axis=1) < 0).all()
    assert (y[:, 51] < y[:, 62]).all() and (y[:, 62] < y[:, 66]).all() and (y[:, 66] < y[:, 57]).all()


def test_mirrored_face_has_its_landmarks_in_mirrored_order(people: Identity) -> None:
    points = landmarks(people, au12=0.7, au1=0.4)

    mirrored = points * np.array([-1, 1])

    assert sorted(MIRRORED) == list(range(68))
    assert np.allclose(mirrored[:, list(MIRRORED)], points)


def test_lopsided_motion_moves_one_side_more(people: Identity) -> None:
    motion = moved(au12=0.6)
    motion.lopsided[:] = 0.3

    move = read_landmarks(build_outlines(people, motion)) - landmarks(people)

    assert (move[:, 54, 1] < move[:, 48, 1] - 0.03).all()


def test_turned_head_is_foreshortened_and_its_nose_moves_to_the_side(people: Identity) -> None:
    points = landmarks(people)
    zero, scale = np.zeros(N), np.full(N, 0.4)
    front = turn(points, Pose(zero, zero, zero, scale, zero, zero))
    side = turn(points, Pose(zero + 0.4, zero, zero, scale, zero, zero))

    assert (np.ptp(side[..., 0], axis=1) < np.ptp(front[..., 0], axis=1)).all()
    assert (side[:, 30, 0] > front[:, 30, 0] + 0.05).all()
    assert (side[:, 30, 0] - front[:, 30, 0] > side[:, 8, 0] - front[:, 8, 0]).all()


def test_face_that_would_leave_the_picture_is_brought_back(people: Identity) -> None:
    zero = np.zeros(N)
    pose = Pose(zero, zero, zero + 0.5, zero + 0.9, zero + 2, zero - 2)
    turned = turn(landmarks(people), pose)

    factor, offset = place(turned, pose)

    seen = turned * factor + offset
    assert seen.min() >= 0.01 - 1e-9
    assert seen.max() <= 0.99 + 1e-9
