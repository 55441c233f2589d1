"""The pictures of a model card can be looked at."""

import io
from typing import Any

import pytest
from PIL import Image

from search.card_pictures import DPI, SIZE_INCHES, card_pictures

BIN = {"confidence": 0.7, "accuracy": 0.6, "n": 20}
OPTION = {
    "members": {"t0000": 1.0}, "looks": "all", "estimate": 0.6, "low": 0.55, "high": 0.66, "ms": 4.0, "megabytes": 9.0,
}  # fmt: skip
ENSEMBLE: dict[str, Any] = {
    "classes": ["anger", "joy"],
    "confusion": [[30.0, 10.0], [0.0, 0.0]],
    "calibration": {"temperature": 1.3, "error": [0.12, 0.03], "bins": [[BIN, BIN], [BIN]]},
    "curve": {"weight": [0.0, 0.5, 1.0], "exact": [0.6, 0.62, 0.58], "smoothed": [0.6, 0.61, 0.58]},
    "options": [OPTION, {**OPTION, "looks": "one", "ms": 0.5}],
}


def opened(picture: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(picture))
    image.load()
    return image


def test_everything_that_is_known_is_drawn() -> None:
    pictures = card_pictures(ENSEMBLE)

    names = ["confusion", "calibration", "blending", "options"]
    assert list(pictures) == [f"pictures/{name}.png" for name in names]
    for picture in pictures.values():
        image = opened(picture)
        assert image.format == "PNG"
        assert image.size == tuple(round(side * DPI) for side in SIZE_INCHES)
        colours = image.convert("RGB").getcolors(maxcolors=1 << 20)
        assert colours is not None and len(colours) > 10  # it is not blank


def test_nothing_is_drawn_where_nothing_is_known() -> None:
    assert card_pictures({"classes": ["anger"], "confusion": None, "calibration": None, "options": []}) == {}


@pytest.mark.parametrize("missing", ["confusion", "calibration", "curve", "options"])
def test_what_is_not_known_is_left_out_alone(missing: str) -> None:
    assert len(card_pictures({**ENSEMBLE, missing: None})) == 3


def test_options_without_an_estimate_can_be_drawn() -> None:
    unknown = {**OPTION, "estimate": None, "low": None, "high": None}

    (picture,) = card_pictures({"classes": ["anger"], "options": [unknown]}).values()

    assert opened(picture).format == "PNG"


def test_pictures_are_the_same_when_drawn_again() -> None:
    assert card_pictures(ENSEMBLE) == card_pictures(ENSEMBLE)
