"""Augmentation: shapes kept, repeatable by seed, off when all its chances are 0."""

import numpy as np
import pytest

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter

OFF = {"flip_p": 0, "affine_p": 0, "light_p": 0, "erase_p": 0}


def draw_images(n: int = 24, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, channels), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_augmenter_keeps_shape_and_type(channels: int) -> None:
    images = draw_images(channels=channels)

    altered = Augmenter(AugmentConfig(flip_p=1, affine_p=1, light_p=1, erase_p=1)).alter(images, seed=1)

    assert (altered.shape, altered.dtype) == (images.shape, np.uint8)
    assert all((before != after).any() for before, after in zip(images, altered, strict=True))


def test_augmenter_repeats_itself_by_seed() -> None:
    augmenter, images = Augmenter(AugmentConfig()), draw_images()

    first, other, again = (augmenter.alter(images, seed=seed) for seed in (1, 2, 1))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_augmenter_leaves_its_input_as_it_was() -> None:
    images = draw_images()
    images.flags.writeable = False

    altered = Augmenter(AugmentConfig()).alter(images, seed=1)

    assert altered.flags.writeable


def test_augmenter_changes_nothing_when_all_chances_are_zero() -> None:
    images = draw_images()

    np.testing.assert_array_equal(Augmenter(AugmentConfig(**OFF)).alter(images, seed=1), images)


def test_augmenter_mirrors_when_only_the_mirror_is_on() -> None:
    images = draw_images()

    altered = Augmenter(AugmentConfig(**{**OFF, "flip_p": 1})).alter(images, seed=1)

    np.testing.assert_array_equal(altered, images[:, :, ::-1])


def test_augmenter_draws_each_kind_of_change_for_itself() -> None:
    """With one stream of chances for all kinds, the first face of a batch would be erased only if mirrored."""
    face = np.zeros((1, 32, 32, 1), np.uint8)
    face[:, :, :4] = 255
    augmenter = Augmenter(AugmentConfig(**{**OFF, "flip_p": 0.5, "erase_p": 0.5}))

    altered = [augmenter.alter(face, seed=seed)[0] for seed in range(40)]

    seen = {(bool(image[:, -4:].mean() > 128), len(np.unique(image)) > 2) for image in altered}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}
