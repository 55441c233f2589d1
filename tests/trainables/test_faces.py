"""Generated faces: the same for the same seed, hard in the right places, and with labels that are exactly on them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables.data.faces.domains import DOMAINS
from trainables.data.faces.expression import EXPRESSIONS
from trainables.data.faces.faces import generate_faces
from trainables.data.labels import LABEL_COLUMNS
from trainables.data.table import Faces


def draw(n: int = 12, *, domain: str = "clean", seed: int = 0, first: int = 0, px: int = 64) -> Faces:
    rows = range(first, first + n)
    expression = (np.arange(first, first + n) % len(EXPRESSIONS)).astype(np.int8)
    subjects = [row // 2 for row in rows]
    return generate_faces(expression, subjects=subjects, keys=rows, domain=domain, seed=seed, image_px=px)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clean() -> Faces:
    return draw(180)


@pytest.fixture(scope="module")
def wild() -> Faces:
    return draw(180, domain="wild")


def sharpness(images: NDArray[np.uint8]) -> float:
    grey = images.mean(axis=3)
    return float(np.abs(np.diff(grey, axis=2)).max(axis=(1, 2)).mean())


def test_faces_are_the_same_for_the_same_seed() -> None:
    assert np.array_equal(draw(seed=3).images, draw(seed=3).images)
    assert not np.array_equal(draw(seed=3).images, draw(seed=4).images)


@pytest.mark.parametrize("domain", ["clean", "wild"])
def test_face_does_not_depend_on_the_faces_drawn_with_it(domain: str) -> None:
    together, alone = draw(12, domain=domain), draw(1, domain=domain, first=7)

    assert np.array_equal(together.images[7], alone.images[0])
    assert together.landmarks is not None and alone.landmarks is not None
    assert np.array_equal(together.landmarks[7], alone.landmarks[0])


@pytest.mark.parametrize("px", [48, 64, 112, 128])
def test_faces_are_drawn_at_any_usual_size(px: int) -> None:
    faces = draw(6, px=px)

    assert faces.images.shape == (6, px, px, 3)
    assert faces.images.dtype == np.uint8


def test_landmarks_do_not_depend_on_the_size_of_the_picture() -> None:
    small, large = draw(6, px=48).landmarks, draw(6, px=96).landmarks

    assert small is not None and large is not None
    assert np.array_equal(small, large)


@pytest.mark.parametrize("domain", ["clean", "wild"])
def test_labels_are_complete_and_in_range(domain: str, clean: Faces, wild: Faces) -> None:
    faces = {"clean": clean, "wild": wild}[domain]

    for name, column in LABEL_COLUMNS.items():
        values = faces.label(name)
        assert values is not None, name
        assert values.dtype == column.dtype
        assert values.shape == ((180,) if column.width == 1 else (180, column.width))
        assert column.is_known(values).all()
        assert values.min() >= max(column.low, 0 if values.dtype.kind == "i" else -1)
        assert values.max() <= column.high
    assert faces.action_units is not None
    assert set(faces.action_units.ravel().tolist()) == {0, 1}


def test_no_picture_is_flat_or_like_another(clean: Faces, wild: Faces) -> None:
    for faces in (clean, wild):
        assert faces.images.reshape(180, -1).std(axis=1).min() > 8
        assert len({image.tobytes() for image in faces.images}) == 180


def test_edges_are_anti_aliased(monkeypatch: pytest.MonkeyPatch) -> None:
    studio = replace(DOMAINS["clean"], noise=(0, 0), blur_px=(0, 0), shade=(0, 0))
    monkeypatch.setitem(DOMAINS, "clean", studio)

    image = draw(1).images[0].astype(int)

    head_edge = np.abs(np.diff(image[20:40, :12].mean(axis=2), axis=1))
    steps = (head_edge > 2).sum(axis=1)
    assert steps.max() >= 2  # the edge passes through grey levels between background and skin
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 200


def test_hands_cover_faces_and_most_of_all_in_fear() -> None:
    expression = np.repeat(np.arange(6, dtype=np.int8), 40)
    faces = generate_faces(expression, subjects=[0] * 240, keys=range(240), domain="wild", seed=0, image_px=32)

    assert faces.hand is not None
    shares = faces.hand.reshape(6, 40).mean(axis=1)
    assert shares.argmax() == EXPRESSIONS.index("fear")
    assert shares[EXPRESSIONS.index("fear")] > 0.25


def test_hand_changes_the_pixels_of_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS, "clean", replace(DOMAINS["clean"], hand_share=(0,) * 6))
    without = draw(24)
    monkeypatch.setitem(DOMAINS, "clean", replace(DOMAINS["clean"], hand_share=(1,) * 6))
    with_hand = draw(24)

    assert without.hand is not None and with_hand.hand is not None
    assert without.hand.max() == 0
    assert with_hand.hand.min() == 1
    changed = np.abs(without.images.astype(int) - with_hand.images).max(axis=3) > 20
    assert changed.mean(axis=(1, 2)).min() > 0.02
    assert np.array_equal(without.landmarks, with_hand.landmarks)  # type: ignore[arg-type]


def test_wild_faces_differ_from_clean_ones(clean: Faces, wild: Faces) -> None:
    corner = [np.ptp(faces.images[:, :6, :3].mean(axis=(1, 2)), axis=1).mean() for faces in (clean, wild)]
    light = [np.abs(faces.images[:, :, :12].mean((1, 2, 3)) - faces.images[:, :, -12:].mean((1, 2, 3))).mean()
             for faces in (clean, wild)]  # fmt: skip
    steepest = [sharpness(faces.images) for faces in (clean, wild)]
    roll = []
    for faces in (clean, wild):
        points = faces.landmarks.reshape(-1, 68, 2)  # type: ignore[union-attr]
        eyes = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
        roll.append(np.arctan2(eyes[:, 1], eyes[:, 0]).std())

    assert corner[1] > corner[0]  # more colourful surroundings
    assert light[1] > 1.5 * light[0]
    assert steepest[1] < steepest[0]  # blur and low contrast
    assert roll[1] > 1.3 * roll[0]


def test_valence_and_arousal_follow_the_expression(clean: Faces) -> None:
    assert clean.valence is not None and clean.arousal is not None
    mean = {
        name: (clean.valence[clean.expression == index].mean(), clean.arousal[clean.expression == index].mean())
        for index, name in enumerate(EXPRESSIONS)
    }

    assert max(mean, key=lambda name: mean[name][0]) == "happiness"
    assert min(mean, key=lambda name: mean[name][1]) == "sadness"
    assert mean["surprise"][1] > 0.5
    assert all(mean[name][0] < -0.3 for name in ("anger", "disgust", "fear", "sadness"))


def test_same_subject_keeps_its_looks() -> None:
    expression = np.array([3, 3, 3], np.int8)
    same = generate_faces(expression, subjects=[5, 5, 6], keys=[1, 2, 3], domain="clean", seed=0)

    skin = same.images[:, 36:40, 14:18].mean(axis=(1, 2))
    assert same.subjects == ["synth-000005", "synth-000005", "synth-000006"]
    assert np.abs(skin[0] - skin[1]).max() < np.abs(skin[0] - skin[2]).max()
