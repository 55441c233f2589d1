"""Images as they should not be, to `data ingest` and to `predict`: both say the same of each."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import Survives

PX = 24


def _pixels(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape or (PX, PX, 3), dtype=np.uint8)


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


RGB = Image.fromarray(_pixels(99))
PNG, JPEG, GIF, TIFF, BMP, WEBP = (
    _encoded(RGB, "PNG"),
    _encoded(RGB, "JPEG"),
    _encoded(RGB, "GIF"),
    _encoded(RGB, "TIFF"),
    _encoded(RGB, "BMP"),
    _encoded(RGB, "WEBP"),
)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_of(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _jpeg_of(width: int, height: int) -> bytes:
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">HH", height, width) + JPEG[place + 4 :]


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encoded(RGB, "JPEG", exif=exif)


def _with_exif(content: bytes) -> bytes:
    """A JPEG with an EXIF segment of any bytes."""
    segment = b"Exif\0\0" + content
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + JPEG[2:]


BAD: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\xff",
    "text": b"this is no image\n",
    "random bytes": random.Random(4).randbytes(5000),
    "random bytes behind a jpeg's head": JPEG[:20] + random.Random(5).randbytes(5000),
    "random bytes behind a png's head": PNG[:33] + random.Random(6).randbytes(5000),
    "a jpeg's head alone": JPEG[:2],
    "a jpeg cut in half": JPEG[: len(JPEG) // 2],
    "a png cut in half": PNG[: len(PNG) // 2],
    "a gif's head alone": GIF[:13],
    "a tiff cut in half": TIFF[: len(TIFF) // 2],
    "a bmp cut in half": BMP[: len(BMP) // 2],
    "a webp cut in half": WEBP[: len(WEBP) // 2],
    "a png of 60,000 x 60,000": _png_of(60_000, 60_000),
    "a png of 2^31 - 1 pixels": _png_of(2**31 - 1, 1),
    "a png of 9,000 x 9,000 with nothing in it": _png_of(9_000, 9_000),
    "a png of 0 x 0": _png_of(0, 0),
    "a jpeg of 60,000 x 60,000": _jpeg_of(60_000, 60_000),
    "a bmp of 60,000 x 60,000": BMP[:18] + struct.pack("<ii", 60_000, 60_000) + BMP[26:],
    "a bmp of a negative size": BMP[:18] + struct.pack("<ii", -24, -24) + BMP[26:],
    "a gif of 60,000 x 60,000": GIF[:6] + struct.pack("<HH", 60_000, 60_000) + GIF[10:],
    "a pgm of 10^9 x 10^9": b"P5\n1000000000 1000000000\n255\n" + bytes(100),
    "a pgm of text": b"P5\nmany 3\n255\n" + bytes(100),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "html": b"<!doctype html><html><body><img src='x'></body></html>",
    "pdf": b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\ntrailer << >>\n%%EOF\n",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\nshowpage\n",
    "a zip": b"PK\x03\x04" + bytes(100),
    "an icon": _encoded(RGB, "ICO"),
    "a pickle": b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}
"""Name of a case to what stands in a file named .jpg; none is an image that is read."""

GOOD: dict[str, bytes] = {
    "one pixel": _encoded(Image.fromarray(_pixels(1, 1, 1, 3))),
    "a line": _encoded(Image.fromarray(_pixels(2, 1, 900, 3))),
    "cmyk": _encoded(RGB.convert("CMYK"), "JPEG"),
    "16 bits": _encoded(Image.fromarray(_pixels(3, PX, PX).astype(np.uint16) * 257)),
    "32 bits": _encoded(Image.fromarray(_pixels(4, PX, PX).astype(np.int32) * 100), "TIFF"),
    "floats": _encoded(Image.fromarray(_pixels(5, PX, PX).astype(np.float32)), "TIFF"),
    "two colours": _encoded(Image.fromarray(_pixels(6, PX, PX)).convert("1")),
    "a palette": _encoded(RGB.convert("P")),
    "a palette with a hole": _encoded(RGB.convert("P"), "GIF", transparency=3),
    "alpha": _encoded(Image.fromarray(_pixels(7, PX, PX, 4))),
    "grey and alpha": _encoded(Image.fromarray(_pixels(8, PX, PX, 2))),
    "ycbcr": _encoded(RGB.convert("YCbCr"), "JPEG"),
    "lab": _encoded(RGB.convert("LAB"), "TIFF"),
    "animated": _encoded(RGB, "GIF", save_all=True, append_images=[Image.fromarray(_pixels(9))]),
    "turned": _turned(6),
    "turned and mirrored": _turned(7),
    "turned by a number that is none": _turned(99),
    "exif of random bytes": _with_exif(random.Random(7).randbytes(200)),
    "exif of a loop": _with_exif(b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
    "a png named jpg": PNG,
    "a webp named jpg": WEBP,
    "bytes behind the end": PNG + b"<?php ?>",
    "a long comment": _encoded(RGB, "JPEG", comment=b"x" * 60_000),
    "large": _encoded(Image.new("L", (5000, 5000))),
}
"""Odd, and images all the same."""

N_MUTANTS = 20
QUICK = {"a png of 60,000 x 60,000", "random bytes behind a jpeg's head", "cmyk"}


def _cases(names: list[str]) -> list[Any]:
    return [pytest.param(name, id=name, marks=() if name in QUICK else pytest.mark.faults) for name in names]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of class folders, where one more image can be put."""
    for number in range(12):
        file = tmp_path / "faces" / ("anger", "fear")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_pixels(number)).save(file)
    return tmp_path / "faces"


@pytest.mark.parametrize("case", _cases(list(BAD)))
def test_ingest_names_an_image_that_is_none(case: str, source: Path, survives: "Survives") -> None:
    (source / "fear" / "odd.jpg").write_bytes(BAD[case])

    survives.ingest(source, codes=(1,))

    assert not Path("table").exists()


@pytest.mark.parametrize("case", _cases(list(GOOD)))
def test_ingest_takes_an_odd_image(case: str, source: Path, survives: "Survives") -> None:
    (source / "fear" / "odd.jpg").write_bytes(GOOD[case])

    survives.ingest(source, codes=(0,))


@pytest.mark.faults
@pytest.mark.parametrize("case", list(BAD))
def test_predict_names_an_image_that_is_none(case: str, good_model: Path, survives: "Survives", tmp_path: Path) -> None:
    (tmp_path / "odd.jpg").write_bytes(BAD[case])

    answer = survives("predict", good_model, "odd.jpg", codes=(1,))

    assert answer.sentence.endswith("odd.jpg")


@pytest.mark.faults
@pytest.mark.parametrize("case", list(GOOD))
def test_predict_takes_an_odd_image(case: str, good_model: Path, survives: "Survives", tmp_path: Path) -> None:
    (tmp_path / "odd.jpg").write_bytes(GOOD[case])

    survives("predict", good_model, "odd.jpg", "--json", codes=(0,))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(N_MUTANTS))
def test_ingest_and_predict_agree_on_an_image_that_was_damaged(
    seed: int, good_model: Path, source: Path, damage: Callable[[Path, int], str], survives: "Survives", tmp_path: Path
) -> None:
    odd = source / "fear" / "odd.jpg"
    odd.write_bytes((JPEG, PNG, GIF, TIFF, BMP, WEBP, GOOD["16 bits"])[seed % 7])
    damage(odd, seed)

    ingested = survives.ingest(source, codes=(0, 1))
    asked = survives("predict", good_model, odd, codes=(0, 1))

    assert asked.code == ingested.code


@pytest.mark.faults
@pytest.mark.parametrize(
    "put",
    [
        pytest.param(os.mkfifo, id="a pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), id="a device"),
        pytest.param(lambda path: path.symlink_to(path), id="a link to itself"),
        pytest.param(Path.mkdir, id="an empty folder"),
        pytest.param(lambda path: None, id="nothing"),
    ],
)
def test_predict_takes_files_alone(put: Callable[[Path], Any], good_model: Path, survives: "Survives") -> None:
    put(Path("odd.jpg"))

    survives("predict", good_model, "odd.jpg", codes=(1,))
