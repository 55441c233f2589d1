"""Decoded images brought to another size or number of channels."""

import io

import numpy as np
import pytest
from PIL import Image

from trainables.data.decode import decode_image
from trainables.data.resampling import match_channels, resample_images


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_images_become_what_decoding_would_have_made_of_them(images: np.ndarray, channels: int) -> None:
    encoded = io.BytesIO()
    Image.fromarray(images[1]).save(encoded, format="PNG")

    brought = resample_images(match_channels(images, channels), image_px=16)

    assert brought.shape == (3, 16, 16, channels)
    assert np.array_equal(brought[1], decode_image(encoded.getvalue(), image_px=16, channels=channels))


def test_images_of_the_right_kind_are_not_copied(images: np.ndarray) -> None:
    assert match_channels(images, 3) is images
    assert resample_images(images, image_px=20) is images


def test_grey_survives_the_way_to_colour_and_back(images: np.ndarray) -> None:
    grey = images[..., :1]

    assert np.array_equal(match_channels(match_channels(grey, 3), 1), grey)


def test_filters_differ(images: np.ndarray) -> None:
    bicubic, lanczos = (resample_images(images, image_px=40, by=by) for by in ("bicubic", "lanczos"))

    assert not np.array_equal(bicubic, lanczos)
