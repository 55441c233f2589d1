"""Landmarks are where the pixels are."""

from dataclasses import replace

import numpy as np
import pytest

from trainables.data.faces.domains import CLEAN, DOMAINS
from trainables.data.faces.faces import generate_faces
from trainables.data.table import Faces

PX = 128


@pytest.fixture(scope="module")
def plain() -> Faces:
    """Sharp, even faces without hands, light-skinned and dark-skinned, of all expressions."""
    studio = replace(CLEAN, noise=(0, 0), blur_px=(0, 0), shade=(0, 0), hand_share=(0,) * 6, blink_share=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DOMAINS, "clean", studio)
        expression = np.arange(36).astype(np.int8) % 6
        return generate_faces(expression, subjects=range(36), keys=range(36), domain="clean", seed=1, image_px=PX)


def test_open_mouth_is_dark_or_white_between_its_landmarks(plain: Faces) -> None:
    assert plain.landmarks is not None
    points = plain.landmarks.reshape(-1, 68, 2) * PX - 0.5
    checked = 0
    for image, marks in zip(plain.images.astype(int), points, strict=True):
        if marks[66, 1] - marks[62, 1] < 8:
            continue
        column = round(float(marks[62, 0]))
        inside = image[round(float(marks[62, 1])) + 2 : round(float(marks[66, 1])) - 1, column].mean(axis=1)
        lip = image[round(float((marks[66, 1] + marks[57, 1]) / 2)), column].mean()
        checked += 1
        assert np.abs(inside - lip).max() > 25
    assert checked >= 5


def test_eyes_are_darker_or_lighter_than_the_cheek_below(plain: Faces) -> None:
    assert plain.landmarks is not None
    points = plain.landmarks.reshape(-1, 68, 2) * PX - 0.5
    for image, marks, subject in zip(plain.images.astype(int), points, plain.subjects or [], strict=True):
        x, y = marks[36:42].mean(axis=0).round().astype(int)
        eye = image[y - 3 : y + 4, x - 8 : x + 9].mean(axis=2)
        assert eye.std() > 10, subject


def test_chin_landmark_is_the_border_between_face_and_neck(plain: Faces) -> None:
    assert plain.landmarks is not None
    chins = plain.landmarks.reshape(-1, 68, 2)[:, 8] * PX - 0.5
    steps = []
    for image, (x, y) in zip(plain.images.astype(int), chins, strict=True):
        if y > PX - 6:
            continue
        above, below = (image[int(y) + offset, round(float(x))].mean() for offset in (-4, 4))
        steps.append(above - below)
    assert len(steps) > 5
    assert np.mean(np.array(steps) > 5) > 0.7  # a beard may be as dark as the neck
