"""Decoding: any picture becomes square 8-bit pixels, upright, or is named as none."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spaces.errors import DataError
from trainables.data.decode import decode_chunk, decode_image, looks_grey, read_encoded


def encode(image: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def ramp(width: int = 16, height: int = 16) -> Image.Image:
    return Image.fromarray(np.add.outer(np.arange(height) * 5, np.arange(width) * 10).astype(np.uint8))


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_image_of_the_right_size_keeps_its_pixels(channels: int) -> None:
    pixels = decode_image(encode(ramp()), image_px=16, channels=channels)

    assert pixels.shape == (16, 16, channels)
    assert (pixels == np.asarray(ramp())[..., None]).all()


def test_image_of_another_size_is_resized_whole() -> None:
    pixels = decode_image(encode(ramp(40, 20)), image_px=16, channels=1)

    expected = np.asarray(ramp(40, 20).resize((16, 16), Image.Resampling.BILINEAR))
    assert (pixels[..., 0] == expected).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read(mode: str, channels: int) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"

    pixels = decode_image(encode(ramp().convert(mode), kind), image_px=16, channels=channels)

    assert pixels.shape == (16, 16, channels)
    assert pixels.std() > 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_every_format_is_read(kind: str) -> None:
    pixels = decode_image(encode(ramp(), kind), image_px=16, channels=1)

    assert np.abs(pixels[..., 0].astype(int) - np.asarray(ramp()).astype(int)).mean() < 3


def test_sixteen_bit_grey_keeps_its_whole_range() -> None:
    deep = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))

    pixels = decode_image(encode(deep), image_px=16, channels=1)

    assert pixels.ravel().tolist() == list(range(256))


def test_camera_rotation_is_undone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(ramp(), "PNG", exif=exif)

    pixels = decode_image(turned, image_px=16, channels=1)

    assert (pixels[..., 0] == np.rot90(np.asarray(ramp()), -1)).all()


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("L", (16, 16), value) for value in (200, 10)]
    animated = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert (decode_image(animated, image_px=16, channels=1) == 200).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "0 bytes"),
        (b"no image at all", "not an image of a known format"),
        (encode(noise(), "JPEG")[:2000], "truncated"),
        (encode(noise(), "PNG")[:1000], "truncated"),
        (encode(Image.new("1", (10_001, 10_000))), "10001 x 10000 pixels, more than 100,000,000"),
        (encode(Image.new("1", (20_000, 20_000))), "more than 100,000,000 pixels"),
    ],
    ids=["empty", "text", "half a jpeg", "half a png", "large", "bomb"],
)
def test_what_is_no_image_is_named(encoded: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode_image(encoded, image_px=16, channels=1)


def test_bad_image_in_a_chunk_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "face.png").write_bytes(encode(ramp()))
    gone, impossible = tmp_path / "gone.png", tmp_path / "a\0b.png"
    items: list[bytes | Path | None] = [b"", tmp_path / "face.png", gone, None, encode(ramp()), impossible]

    chunk = decode_chunk(items, image_px=16, channels=1)

    missing, unnamed = (f"file can't be read ({why})" for why in ("No such file or directory", "embedded null byte"))
    assert chunk.reasons == ["0 bytes", None, missing, "0 bytes", None, unnamed]
    assert (chunk.images[1] == chunk.images[4]).all()
    assert (chunk.digests[1] == chunk.digests[4]).all()
    assert chunk.sizes[1].tolist() == [16, 16]


def test_digests_differ_where_pixels_do() -> None:
    other = np.asarray(ramp()).copy()
    other[0, 0] += 1

    chunk = decode_chunk([encode(ramp()), encode(Image.fromarray(other))], image_px=16, channels=1)

    assert (chunk.digests[0] != chunk.digests[1]).any()


def test_grey_stored_as_colour_looks_grey() -> None:
    assert looks_grey(encode(ramp().convert("RGB"), "JPEG")) == ((16, 16), True)
    assert looks_grey(encode(Image.new("RGB", (20, 10), (200, 20, 20)), "JPEG")) == ((20, 10), False)


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(put: Callable[[Path], None], tmp_path: Path) -> None:
    put(tmp_path / "x.png")

    with pytest.raises(DataError, match=r"^not a regular file$"):
        read_encoded(tmp_path / "x.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_is_read_as_the_colours_it_means(channels: int) -> None:
    lab = ramp().convert("RGB").convert("LAB")

    pixels = decode_image(encode(lab, "TIFF"), image_px=16, channels=channels)

    assert np.abs(pixels.astype(int) - np.asarray(ramp())[..., None].astype(int)).max() < 12
