"""Augmentation: shapes kept, repeatable by seed, off when all its chances are 0, and only what was asked for."""

from typing import Any

import numpy as np
import pytest

from spaces.training_sections import AugmentConfig
from trainables.data.augment import Augmenter

OFF = {"flip_p": 0, "affine_p": 0, "light_p": 0, "erase_p": 0}
STILL = {"max_jitter": 0, "max_hue": 0}


def draw_images(n: int = 24, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, channels), dtype=np.uint8)


def build(**settings: Any) -> Augmenter:
    """An augmenter that does what these settings say and no more."""
    return Augmenter(AugmentConfig(**{**OFF, **settings}))


def alter(images: np.ndarray, seed: int = 1, **settings: Any) -> np.ndarray:
    return build(**settings).alter(images, seed=seed)


def mark_face(channels: int = 3) -> np.ndarray:
    """A dark face with one bright pixel off the middle, [1, 32, 32, channels]."""
    face = np.full((1, 32, 32, channels), 40, np.uint8)
    face[0, 9, 21] = 200
    return face


def brightest(image: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(image.astype(int).sum(axis=2).argmax(), image.shape[:2])
    return int(row), int(column)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "settings",
    [
        {"flip_p": 1, "affine_p": 1, "light_p": 1, "erase_p": 1},
        {"crop_p": 1, "jitter_p": 1, "rand_p": 1},
        {"policy": "alternatives", "erase_p": 1, "rand_p": 1},
    ],
    ids=["plain", "more", "alternatives"],
)
def test_augmenter_keeps_shape_and_type(settings: dict[str, Any], channels: int) -> None:
    images = draw_images(channels=channels)

    altered = Augmenter(AugmentConfig(**settings)).alter(images, seed=1)

    assert altered.shape == images.shape and altered.dtype == np.uint8
    assert all((before != after).any() for before, after in zip(images, altered, strict=True))


@pytest.mark.parametrize(
    "settings",
    [{}, {"crop_p": 0.5, "jitter_p": 0.5, "rand_p": 0.5}, {"policy": "alternatives"}],
    ids=["plain", "more", "alternatives"],
)
def test_augmenter_repeats_itself_by_seed(settings: dict[str, Any]) -> None:
    augmenter, images = Augmenter(AugmentConfig(**settings)), draw_images()

    first, other, again = (augmenter.alter(images, seed=seed) for seed in (1, 2, 1))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(Augmenter(AugmentConfig(**settings)).alter(images, seed=1), first)


def test_augmenter_leaves_its_input_as_it_was() -> None:
    images = draw_images()
    images.flags.writeable = False

    altered = Augmenter(AugmentConfig()).alter(images, seed=1)

    assert altered.flags.writeable


def test_augmenter_changes_nothing_when_all_chances_are_zero() -> None:
    images = draw_images()

    np.testing.assert_array_equal(alter(images), images)


@pytest.mark.parametrize("change", ["flip_p", "affine_p", "crop_p", "jitter_p", "light_p", "erase_p", "rand_p"])
def test_augmenter_is_idle_unless_something_can_happen(change: str) -> None:
    assert build().is_idle
    assert not build(**{change: 0.1}).is_idle
    assert not build(policy="alternatives").is_idle


def test_augmenter_mirrors_when_only_the_mirror_is_on() -> None:
    images = draw_images()

    np.testing.assert_array_equal(alter(images, flip_p=1), images[:, :, ::-1])


def test_augmenter_draws_each_kind_of_change_for_itself() -> None:
    """With one stream of chances for all kinds, the first face of a batch would be erased only if mirrored."""
    face = np.zeros((1, 32, 32, 1), np.uint8)
    face[:, :, :4] = 255
    augmenter = build(flip_p=0.5, erase_p=0.5)

    altered = [augmenter.alter(face, seed=seed)[0] for seed in range(40)]

    seen = {(bool(image[:, -4:].mean() > 128), len(np.unique(image)) > 2) for image in altered}
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "off", [(), ("flip_p",), ("affine_p", "erase_p"), ("light_p",)], ids=lambda off: "-".join(off) or "all on"
)
def test_augmenter_alters_as_it_did_when_these_four_changes_were_all(off: tuple[str, ...], channels: int) -> None:
    """Runs of older settings must repeat: the same changes in the same order, seeded by their places in it."""
    import albumentations as alb
    import cv2

    changes = {
        "flip_p": alb.HorizontalFlip(p=0.5),
        "affine_p": alb.Affine(
            translate_percent=(-0.06, 0.06),
            scale=(0.9, 1.1),
            rotate=(-10.0, 10.0),
            border_mode=cv2.BORDER_REPLICATE,
            p=0.6,
        ),
        "light_p": alb.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        "erase_p": alb.CoarseDropout(
            num_holes_range=(1, 1),
            hole_height_range=(0.1, 0.33),
            hole_width_range=(0.1, 0.33),
            fill="random_uniform",
            p=0.5,
        ),
    }
    pipeline = alb.Compose([change for name, change in changes.items() if name not in off])
    seeds = np.random.SeedSequence(7).generate_state(len(pipeline.transforms))
    for transform, seed in zip(pipeline.transforms, seeds, strict=True):
        transform.set_random_seed(int(seed))
    images = draw_images(channels=channels)
    expected = np.stack([pipeline(image=image)["image"] for image in images])

    settings: dict[str, Any] = {"erase_p": 0.5, **dict.fromkeys(off, 0)}
    altered = Augmenter(AugmentConfig(**settings)).alter(images, seed=7)

    np.testing.assert_array_equal(altered, expected)


def test_crop_brings_a_part_of_the_face_back_to_size() -> None:
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] * 8, (40, 32, 32))[..., None].copy()

    altered = alter(ramp, crop_p=1, crop_min_scale=0.25)

    spans = altered[:, -1, 0, 0].astype(float) - altered[:, 0, 0, 0]
    shares = spans / (31 * 8)
    assert shares.min() > 0.4  # side of a quarter of the area, at a ratio of up to 1.1
    assert shares.max() <= 1.0
    assert shares.std() > 0.1


def test_crop_takes_more_of_the_face_when_its_smallest_area_is_larger() -> None:
    images = draw_images()

    large, small = (alter(images, crop_p=1, crop_min_scale=scale) for scale in (1.0, 0.1))

    np.testing.assert_array_equal(large, images)
    assert all((before != after).any() for before, after in zip(images, small, strict=True))


@pytest.mark.parametrize("px", [32, 48])
def test_crop_keeps_the_size_whatever_it_is(px: int) -> None:
    assert alter(np.zeros((2, px, px, 3), np.uint8), crop_p=1).shape == (2, px, px, 3)


def test_jitter_changes_brightness_and_contrast_alone_on_grey() -> None:
    images = draw_images()

    altered = alter(images, jitter_p=1, max_jitter=0, max_hue=0.5)

    np.testing.assert_array_equal(altered, images)
    assert (alter(images, jitter_p=1, max_jitter=0.3) != images).any()


def test_jitter_turns_hues_of_colour_faces() -> None:
    red = np.zeros((20, 32, 32, 3), np.uint8)
    red[..., 0] = 200

    altered = alter(red, jitter_p=1, max_jitter=0, max_hue=0.5)

    assert set(altered[:, 0, 0].argmax(axis=1).tolist()) == {0, 1, 2}


def test_rand_augment_alters_its_share_of_the_faces_anew_each_time() -> None:
    images = draw_images(n=400)

    first, other = (alter(images, seed=seed, rand_p=0.5, rand_ops=3) for seed in (1, 2))

    is_changed = (first != images).any(axis=(1, 2, 3))
    assert 0.35 < is_changed.mean() < 0.55  # three times the identity or color, on grey, is nothing too
    assert (first != other).any()


def test_alternatives_are_five_equally_likely_changes() -> None:
    """A red face, brighter to the right: a new hue keeps how bright it is, a crop spans less, a flip turns it round."""
    faces = np.zeros((1500, 32, 32, 3), np.uint8)
    faces[..., 0] = 60 + 6 * np.arange(32)

    altered = alter(faces, policy="alternatives", max_jitter=0, max_hue=0.5, crop_min_scale=0.3)

    brightness = altered.max(axis=3)[:, 16].astype(int)  # [faces, width]
    is_jittered = (altered[..., 1:] > 2).any(axis=(1, 2, 3))
    is_cropped = np.abs(brightness[:, -1] - brightness[:, 0]) < 180  # of 186
    is_flipped = brightness[:, 0] > brightness[:, -1]
    seen = [tuple(kind) for kind in np.stack([is_jittered, is_cropped, is_flipped], axis=1).tolist()]
    jitter, crop, flip = (True, False, False), (False, True, False), (False, False, True)
    five = [jitter, crop, flip, (True, True, False), (False, True, True)]
    assert [seen.count(kind) / 1500 for kind in five] == pytest.approx([0.2] * 5, abs=0.04)
    assert set(seen) - set(five) <= {(False, False, False)}  # a crop of nearly all, a hue nearly the same


def test_alternatives_heed_no_chances_but_those_of_erasing_and_rand_augment() -> None:
    images = draw_images(n=60)

    plain = alter(images, policy="alternatives")
    others = alter(images, policy="alternatives", flip_p=1, affine_p=1, light_p=1, crop_p=1, jitter_p=1)
    erased = alter(images, policy="alternatives", erase_p=1, **STILL)
    rand = alter(images, policy="alternatives", rand_p=1)

    np.testing.assert_array_equal(others, plain)
    assert (erased != images).any(axis=(1, 2, 3)).all()
    assert (rand != plain).any()


def test_copies_are_the_same_whatever_stands_beside_them_and_differ_from_each_other() -> None:
    augmenter = build(rand_ops=3)
    face = draw_images(1, channels=3)
    copies = np.arange(6)

    altered = augmenter.alter_copies(np.repeat(face, 6, axis=0), np.full(6, 41), copies)

    alone = build(rand_ops=3).alter_copies(face, np.array([41]), np.array([4]))
    np.testing.assert_array_equal(altered[0], face[0])
    np.testing.assert_array_equal(altered[4], alone[0])
    assert len({image.tobytes() for image in altered}) == 6


def test_copies_of_other_faces_are_altered_otherwise() -> None:
    augmenter, faces = build(rand_ops=3), np.repeat(draw_images(1), 2, axis=0)

    one, other = augmenter.alter_copies(faces, np.array([3, 4]), np.array([1, 1]))

    assert (one != other).any()


def test_copies_leave_their_input_as_it_was_and_are_given_back_when_there_are_none() -> None:
    augmenter, images = Augmenter(AugmentConfig()), draw_images(3)
    images.flags.writeable = False

    altered = augmenter.alter_copies(images, np.arange(3), np.array([0, 1, 0]))

    np.testing.assert_array_equal(altered[[0, 2]], images[[0, 2]])
    assert augmenter.alter_copies(images, np.arange(3), np.zeros(3, np.int64)) is images


@pytest.mark.parametrize("policy", ["each", "alternatives"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_appearance_jitters_colours_and_moves_no_pixel(policy: Any, channels: int) -> None:
    everything = ("flip_p", "affine_p", "crop_p", "jitter_p", "light_p", "erase_p", "rand_p")
    augmenter = build(policy=policy, **dict.fromkeys(everything, 1))
    face = mark_face(channels)

    views = np.concatenate([augmenter.appearance(face, seed=seed) for seed in range(50)])

    assert views.shape == (50, *face.shape[1:])
    assert views.dtype == np.uint8
    assert {brightest(view) for view in views} == {(9, 21)}
    background = views[:, :9].reshape(50, -1, channels)
    assert (background == background[:, :1]).all()  # the mark has spread nowhere
    assert len(np.unique(views[:, 9, 21].sum(axis=1))) > 10


def test_appearance_repeats_itself_by_seed_and_is_jittered_otherwise_than_the_other_view() -> None:
    augmenter, images = build(jitter_p=1), draw_images(channels=3)

    first, other, again = (augmenter.appearance(images, seed=seed) for seed in (1, 2, 1))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != augmenter.alter(images, seed=1)).any()


def test_appearance_is_the_face_itself_when_no_jitter_is_asked_for() -> None:
    images = draw_images()

    assert Augmenter(AugmentConfig(jitter_p=0)).appearance(images, seed=1) is images
