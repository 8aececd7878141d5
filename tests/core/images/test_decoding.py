"""Image files from outside: decoded, or refused in one line, never a crash and never a bomb."""

import io
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from openmlops.core.images.decoding import (
    MAX_PIXELS,
    as_png,
    decode_image,
    decode_native,
    decode_shrunk,
    decode_turned,
    image_size,
    upright_size,
)
from openmlops.errors import DataError
from turned import ORIENTATIONS, photograph

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_every_8_bit_mode_of_png_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode_image(encoded(image), 32, 32), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_decoded(mode: str) -> None:
    found = decode_image(encoded(Image.new("RGB", (32, 32), "white").convert(mode), "JPEG"), 32, 32)
    assert found.shape == (32, 32, 3)
    assert found.min() > 250


def test_another_size_is_resized() -> None:
    large = Image.fromarray(PIXELS).resize((320, 160), Image.Resampling.NEAREST)
    found = decode_image(encoded(large), 32, 32)
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int).mean() - PIXELS.mean()) < 3


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match="neither PNG nor JPEG"):
        decode_image(encoded(Image.fromarray(PIXELS), kind), 32, 32)


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (MAX_PIXELS + 1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    started = time.process_time()
    with pytest.raises(DataError, match="pixels"):
        decode_image(png_header(width, height), 32, 32)
    assert time.process_time() - started < 5


def test_16_bits_a_channel_are_refused() -> None:
    deep = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32))
    with pytest.raises(DataError, match="not 8 bits a channel"):
        decode_image(encoded(deep), 32, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    content = encoded(Image.fromarray(PIXELS), kind)
    with pytest.raises(DataError):
        decode_image(content[: int(share * len(content))], 32, 32)


@given(content=st.binary(max_size=200))
def test_rubbish_is_refused(content: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"):
        with pytest.raises(DataError):
            decode_image(start + content, 32, 32)


@given(position=st.integers(0, 5000), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG"]))
def test_a_garbled_file_is_decoded_or_refused(position: int, value: int, kind: str) -> None:
    content = bytearray(encoded(Image.fromarray(PIXELS), kind))
    content[position % len(content)] = value
    with suppress(DataError):
        assert decode_image(bytes(content), 32, 32).shape == (32, 32, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (48, 31), (31, 480)])
def test_the_native_size_is_kept(height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(decode_native(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_image_is_upright_whatever_its_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.kron(PIXELS[:3, :2], np.ones((8, 8, 1), np.uint8))  # 24x16: blocks, which JPEG keeps nearly as they are
    content = photograph(upright, orientation, kind)
    assert np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))).shape == upright.shape
    pixels, turned = decode_turned(content)
    for found in (pixels, decode_native(content), decode_image(content, 24, 16), decode_shrunk(content, 24, 16)):
        assert found.shape == upright.shape
        assert np.abs(found.astype(int) - upright).max() <= (0 if kind == "PNG" else 12)
    assert turned == (orientation != 1)
    assert upright_size(content) == (24, 16)
    assert image_size(content) == ((24, 16) if orientation < 5 else (16, 24))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_converted_image_is_upright_and_turned_only_once(orientation: int) -> None:
    upright = PIXELS[:20]
    converted = as_png(photograph(upright, orientation, "WEBP"))
    assert converted is not None
    assert np.array_equal(decode_native(converted), upright)
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(converted)))), upright)


TEXT_AS_ORIENTATION = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02x\0\0\0\0\0\0\0"


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0", TEXT_AS_ORIENTATION, b"noise" * 9])
def test_an_exif_orientation_that_cannot_be_read_counts_as_none(exif: bytes) -> None:
    content = encoded(Image.fromarray(PIXELS[:20]), "PNG", exif=exif)
    assert np.array_equal(decode_native(content), PIXELS[:20])
    assert upright_size(content) == (20, 32)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_exif_orientation_that_does_not_exist_counts_as_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_native(encoded(Image.fromarray(PIXELS[:20]), exif=exif)), PIXELS[:20])


@pytest.mark.parametrize(
    "content",
    [png_header(10_000, 10_000), encoded(Image.fromarray(PIXELS))[:-100], encoded(Image.fromarray(PIXELS), "GIF"), b""],
)
def test_what_is_refused_at_one_size_is_refused_at_its_own(content: bytes) -> None:
    with pytest.raises(DataError):
        decode_native(content)
