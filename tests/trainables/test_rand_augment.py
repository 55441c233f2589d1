"""RandAugment: torchvision's operations on torchvision's scales, drawn with replacement."""

import pickle
import time

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from trainables.data.rand_augment import OPERATIONS, RandAugment

NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "auto_contrast": "AutoContrast",
}
"""Our names of the operations to torchvision's."""

each_operation = pytest.mark.parametrize("name", NAMES)


def draw_face(channels: int = 3, height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(20, 200, (height, width, channels), dtype=np.uint8)


def to_pillow(face: np.ndarray) -> Image.Image:
    return Image.fromarray(face[..., 0] if face.shape[-1] == 1 else face)


def torchvisions(face: Image.Image, name: str, magnitude: int, sign: int) -> np.ndarray:
    """What torchvision's own RandAugment makes of a face when it has drawn this operation."""
    scale, is_signed = v2.RandAugment._AUGMENTATION_SPACE[name]
    amounts = scale(31, face.height, face.width)
    amount = 0.0 if amounts is None else float(amounts[magnitude])
    altered = v2.RandAugment()._apply_image_or_video_transform(
        face, name, sign * amount if is_signed else amount, interpolation=InterpolationMode.NEAREST, fill={object: None}
    )
    return np.asarray(altered)


def ours(face: Image.Image, name: str, magnitude: int, sign: int) -> np.ndarray:
    apply, largest, is_signed = OPERATIONS[name]
    return np.asarray(apply(face, (sign if is_signed else 1) * magnitude / 30 * largest))


def test_operations_are_torchvisions_without_solarize_and_equalize() -> None:
    assert set(OPERATIONS) == set(NAMES)
    assert set(NAMES.values()) == set(v2.RandAugment._AUGMENTATION_SPACE) - {"Solarize", "Equalize"}


@each_operation
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("sign", [1, -1], ids=["plus", "minus"])
def test_operation_does_what_torchvisions_does(name: str, channels: int, sign: int) -> None:
    face = to_pillow(draw_face(channels))

    for magnitude in (0, 1, 9, 14, 22, 30):
        expected = torchvisions(face, NAMES[name], magnitude, sign)
        np.testing.assert_array_equal(ours(face, name, magnitude, sign), expected, err_msg=f"magnitude {magnitude}")


@pytest.mark.parametrize("side", [48, 112, 331])
def test_translations_are_torchvisions_to_the_pixel_at_every_strength(side: int) -> None:
    face = to_pillow(draw_face(1, side, side))

    for magnitude in range(31):
        expected = torchvisions(face, "TranslateX", magnitude, 1)
        np.testing.assert_array_equal(ours(face, "translate_x", magnitude, 1), expected, err_msg=f"{magnitude}")


@each_operation
def test_operation_changes_a_colour_face_unless_it_is_the_identity(name: str) -> None:
    face = to_pillow(draw_face())

    is_same = np.array_equal(ours(face, name, 9, 1), np.asarray(face))

    assert is_same == (name == "identity")


def test_color_does_nothing_on_grey() -> None:
    face = to_pillow(draw_face(channels=1))

    np.testing.assert_array_equal(ours(face, "color", 30, -1), np.asarray(face))


def test_one_operation_a_face_is_each_of_the_twelve_equally_often_in_both_signs() -> None:
    face, rand_augment, generator = draw_face(), RandAugment(1, 9), np.random.default_rng(1)
    image = to_pillow(face)
    names = {ours(image, name, 9, sign).tobytes(): (name, sign) for name in NAMES for sign in (1, -1)}

    drawn = [names[rand_augment.alter(face, generator).tobytes()] for _ in range(2400)]

    counts = {name: sum(found == name for found, _ in drawn) for name in NAMES}
    assert min(counts.values()) > 130 and max(counts.values()) < 280, counts
    signed = [name for name, operation in OPERATIONS.items() if operation.is_signed]
    shares = {name: sum(one == (name, 1) for one in drawn) / counts[name] for name in signed}
    assert min(shares.values()) > 0.35 and max(shares.values()) < 0.65, shares


def test_same_operation_can_be_drawn_twice() -> None:
    face = np.zeros((40, 40, 1), np.uint8)
    face[20, 20] = 255
    shift = int(9 / 30 * 150 / 331 * 40)
    generator = np.random.default_rng(0)

    altered = [RandAugment(2, 9).alter(face, generator) for _ in range(2000)]

    lit = {tuple(np.argwhere(image[..., 0])[0].tolist()) for image in altered if np.count_nonzero(image) == 1}
    assert {(20, 20 + 2 * shift), (20, 20 - 2 * shift), (20 + 2 * shift, 20)} <= lit


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_alter_depends_on_its_generator_alone_and_keeps_shape_type_and_input(channels: int) -> None:
    face = draw_face(channels)
    face.flags.writeable = False
    rand_augment = RandAugment(3, 12)

    first, again, other = (rand_augment.alter(face, np.random.default_rng(seed)) for seed in (3, 3, 4))

    assert first.shape == face.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_more_magnitude_changes_more() -> None:
    face, changes = draw_face(), []
    for magnitude in (0, 9, 30):
        generator = np.random.default_rng(0)
        altered = np.stack([RandAugment(2, magnitude).alter(face, generator) for _ in range(100)])
        changes.append(float(np.abs(altered.astype(float) - face).mean()))

    assert changes[0] < changes[1] < changes[2]


def test_rand_augment_travels_to_other_processes() -> None:
    face = draw_face()
    sent = pickle.loads(pickle.dumps(RandAugment(2, 9)))

    np.testing.assert_array_equal(
        sent.alter(face, np.random.default_rng(5)), RandAugment(2, 9).alter(face, np.random.default_rng(5))
    )


def test_small_faces_are_altered_quickly() -> None:
    face, rand_augment, generator = draw_face(3, 48, 48), RandAugment(2, 9), np.random.default_rng(0)

    started_s = time.process_time()
    for _ in range(400):
        rand_augment.alter(face, generator)

    assert (time.process_time() - started_s) / 400 < 2e-3  # 0.2 ms on an idle core
