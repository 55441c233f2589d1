"""Encoded images to pixels. Imports little, because every decoding process starts with this file."""

import hashlib
import io
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from spaces.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
"""Formats that are read; of an animation, the first frame."""

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused: a few kilobytes can decode to gigabytes."""

MAX_BYTES = 1 << 28
"""Files of more bytes are no images of faces; devices have no end."""

DIGEST_BYTES = 16


@dataclass(frozen=True, eq=False)
class DecodedChunk:
    """Some decoded images, in the order asked for.

    `images` is uint8 [n, px, px, channels], zero where `reasons` says why an image could not be read (None = it
    could). `digests` is uint8 [n, 16], equal for equal pixels; `sizes` is int32 [n, 2], width and height in the
    source.
    """

    images: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    reasons: list[str | None]


def decode_image(encoded: bytes, *, image_px: int, channels: int) -> NDArray[np.uint8]:
    """Pixels of an encoded image: turned upright, grey or RGB, resized (not cropped) where its size differs.

    Returns:
        uint8 [image_px, image_px, channels].

    Raises:
        DataError: the bytes are no image, or one that is cut off or too large.
    """
    return _decode(encoded, image_px=image_px, channels=channels)[0]


def decode_chunk(items: Sequence[bytes | Path | None], *, image_px: int, channels: int) -> DecodedChunk:
    """Decode several images, given as bytes or as files; one that can't be read does not stop the others."""
    n = len(items)
    images = np.zeros((n, image_px, image_px, channels), np.uint8)
    digests = np.zeros((n, DIGEST_BYTES), np.uint8)
    sizes = np.zeros((n, 2), np.int32)
    reasons: list[str | None] = [None] * n
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MAX_PIXELS is our own limit; what can't be decoded is told with its name
        for row, item in enumerate(items):
            try:
                images[row], sizes[row] = _decode(read_encoded(item), image_px=image_px, channels=channels)
            except DataError as error:
                reasons[row] = str(error)
                continue
            digest = hashlib.blake2b(images[row].data, digest_size=DIGEST_BYTES).digest()
            digests[row] = np.frombuffer(digest, np.uint8)
    return DecodedChunk(images, digests, sizes, reasons)


def read_encoded(item: bytes | Path | None) -> bytes:
    """The bytes of an image that is given as bytes or as a file.

    Raises:
        DataError: the file can't be read, or is none.
    """
    if item is None:
        return b""
    if isinstance(item, bytes):
        return item
    try:
        _check_file(item)
        return item.read_bytes()
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        raise DataError(f"file can't be read ({getattr(error, 'strerror', None) or error})") from error


def _check_file(path: Path) -> None:
    """Raise DataError where a path is no regular file: reading a pipe or a device may never end."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise DataError("not a regular file")
    if info.st_size > MAX_BYTES:
        raise DataError(f"{info.st_size:,} bytes, more than {MAX_BYTES:,}")


def looks_grey(encoded: bytes) -> tuple[tuple[int, int], bool]:
    """Width and height of an encoded image, and whether it has no colour.

    Raises:
        DataError: the bytes are no image.
    """
    with _image_errors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # decoding tells what is wrong with an image
        image = _open(encoded)
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return image.size, True
        pixels = np.asarray(image.convert("RGB"))
        return image.size, bool((pixels[..., :1] == pixels[..., 1:]).all())


def _decode(encoded: bytes, *, image_px: int, channels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    with _image_errors():
        image = _open(encoded)
        ImageOps.exif_transpose(image, in_place=True)
        size = image.size
        image = _to_eight_bits(image).convert("L" if channels == 1 else "RGB")
        if size != (image_px, image_px):
            image = image.resize((image_px, image_px), Image.Resampling.BILINEAR)
        return np.asarray(image, dtype=np.uint8).reshape(image_px, image_px, channels), size


def _open(encoded: bytes) -> Image.Image:
    if not encoded:
        raise DataError("0 bytes")
    image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    return image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """PIL's own conversion of 16-bit grey cuts everything above 255 off."""
    if image.mode == "LAB":  # which PIL brings to grey by no other way
        return image.convert("RGB")
    if not image.mode.startswith("I"):
        return image
    values = np.clip(np.asarray(image, dtype=np.int32), 0, 65535)
    return Image.fromarray((values // 257).astype(np.uint8))


@contextmanager
def _image_errors() -> Iterator[None]:
    """Whatever PIL raises on bytes that are no whole image becomes a DataError."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, IndexError and more
        raise DataError(str(error) or type(error).__name__) from error
