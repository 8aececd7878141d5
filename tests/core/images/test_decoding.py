"""Image files from outside: decoded, or refused in one line, never a crash and never a bomb."""

import io
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import GifImagePlugin, Image, ImageFile, ImageOps

from openmlops.core.images import decoding
from openmlops.core.images.decoding import (
    FORMATS,
    HEIF,
    MAX_PIXELS,
    NAMES,
    allow,
    decode_image,
    decode_native,
    decode_reduced,
    image_pixels,
    image_size,
    reduced,
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


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_the_list_is_decoded_at_every_size(kind: str) -> None:
    image = Image.fromarray(np.kron(PIXELS[:4, :4], np.ones((8, 8, 1), np.uint8)))  # 16 colours, which a GIF can hold
    content = encoded(image, kind, **{"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {}))
    for found in (decode_native(content), decode_image(content, 32, 32), decode_reduced(content, 32)):
        assert np.abs(found.astype(int) - np.asarray(image)).max() <= (12 if kind == "JPEG" else 0)
    assert image_size(content) == (32, 32)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    first, second = (Image.new("RGB", (20, 20), colour) for colour in ("red", "blue"))
    content = encoded(first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert (decode_native(content) == (255, 0, 0)).all()


def test_two_pictures_of_a_phone_in_one_jpeg_are_the_first() -> None:
    first, second = (Image.new("RGB", (20, 20), colour) for colour in ("white", "black"))
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert decode_reduced(content, 20).min() > 250


@pytest.mark.skipif(not HEIF, reason="HEIC needs the package pillow-heif")
def test_heic_is_decoded_with_its_plugin() -> None:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), "white")).save(buffer)
    assert decode_native(buffer.getvalue()).min() > 250


@pytest.mark.parametrize("kind", ["PPM", "ICO", "AVIF", "TGA"])
def test_other_formats_are_refused_with_those_that_are_read(kind: str) -> None:
    with pytest.raises(DataError, match=f"is none of {NAMES}. Send a complete file of {NAMES}, at most 64 megapixels"):
        decode_image(encoded(Image.fromarray(PIXELS), kind), 32, 32)


def gif_with(extensions: bytes) -> bytes:
    """A GIF with these bytes before its first frame."""
    content = encoded(Image.fromarray(PIXELS), "GIF")
    at = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    return content[:at] + extensions + content[at:]


def tiff(*fields: tuple[int, int, int, int]) -> bytes:
    """A TIFF of 32x32 grey pixels, with further fields: tag, type, count, value."""
    common = ((256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1))
    entries = b"".join(struct.pack("<HHII", *entry) for entry in (*common, *fields))
    return b"II*\0" + struct.pack("<IH", 8, 5 + len(fields)) + entries + bytes(4) + bytes(4_000_000)


def png_with(chunk: bytes, times: int) -> bytes:
    """A PNG with a chunk so many times before its pixels."""
    content = encoded(Image.fromarray(PIXELS))
    return content[:33] + chunk * times + content[33:]


def jpeg_with(segments: bytes) -> bytes:
    """A JPEG with these bytes before its other segments."""
    content = encoded(Image.fromarray(PIXELS), "JPEG")
    return content[:2] + segments + content[2:]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gif_with(b"\x21\xfe\x01a\0" * 3_000_000), "a GIF file with more than 20000 blocks"),
        (gif_with(b"\x21\xfe" + b"\x01a" * 3_000_000 + b"\0"), "a GIF file with more than 20000 blocks"),
        (tiff((273, 4, 900_000, 8)), "a TIFF file of more than 100000 strips"),
        (tiff((322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 200)), "a TIFF file with tiles of more than"),
        (png_with(struct.pack(">I", 0) + b"juNk" + bytes(4), 300_000), r"a PNG file of more than \d+ chunks"),
        (jpeg_with(b"\xff\xe9\0\2" * 300_000), r"a JPEG file of more than \d+ markers"),
        (jpeg_with(b"") + b"\xff\xda" * 101, "a JPEG file of more than 100 scans"),
    ],
    ids=["comments", "a long comment", "strips", "a tile", "chunks", "markers", "scans"],
)
def test_a_header_that_would_take_seconds_or_gigabytes_is_refused_before_it_is_parsed_or_a_tile_decoded(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GifImagePlugin.GifImageFile, "_open", None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            decode_native(content)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000, "of a million strips, each would be an object"
    finally:
        tracemalloc.stop()


def test_texts_of_a_png_that_nobody_reads_are_not_all_decompressed() -> None:
    text = b"zTXt" + b"a\0\0" + zlib.compress(bytes(1_000_000))
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    assert decode_native(png_with(chunk, 3)).shape == (32, 32, 3)
    with pytest.raises(DataError, match="is none of"):
        decode_native(png_with(chunk, 60))


def test_progressive_jpegs_and_pngs_of_many_chunks_are_decoded() -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8))
    assert decode_native(encoded(large, "JPEG", progressive=True, quality=95)).shape == (600, 600, 3)
    content = encoded(large)
    data = content[content.index(b"IDAT") - 4 :]
    parts = b""
    body = data[8 : 8 + int.from_bytes(data[:4], "big")]
    for start in range(0, len(body), 8192):
        part = b"IDAT" + body[start : start + 8192]
        parts += struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
    assert decode_native(content[:33] + parts + data[8 + len(body) + 4 :]).shape == (600, 600, 3)


def test_a_gif_with_a_comment_of_a_megabyte_is_decoded() -> None:
    assert decode_native(gif_with(b"\x21\xfe" + (b"\xff" + bytes(255)) * 4096 + b"\0")).shape == (32, 32, 3)


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (MAX_PIXELS + 1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with warnings.catch_warnings(record=True) as warned, pytest.raises(DataError, match="pixels"):
        decode_image(png_header(width, height), 32, 32)
    assert not warned


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
@settings(deadline=None)
def test_rubbish_is_refused(content: bytes) -> None:
    starts = (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x20\0\0\0WEBPVP8 ")
    for start in starts:
        with pytest.raises(DataError):
            decode_image(start + content, 32, 32)


@given(position=st.integers(0, 5000), value=st.integers(0, 255), kind=st.sampled_from(list(FORMATS)))
@settings(deadline=None)
def test_a_garbled_file_is_decoded_or_refused(position: int, value: int, kind: str) -> None:
    content = bytearray(encoded(Image.fromarray(PIXELS), kind))
    content[position % len(content)] = value
    with suppress(DataError):
        assert decode_image(bytes(content), 32, 32).shape == (32, 32, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (48, 31), (31, 480)])
def test_the_native_size_is_kept(height: int, width: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(decode_native(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_image_is_upright_whatever_its_exif_orientation(orientation: int, kind: str) -> None:
    upright = np.kron(PIXELS[:3, :2], np.ones((8, 8, 1), np.uint8))  # 24x16: blocks, which JPEG keeps nearly as they are
    content = photograph(upright, orientation, kind)
    assert np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))).shape == upright.shape
    pixels, turned = decode_native(content), reduced(content, 1)[2]
    for found in (pixels, decode_native(content), decode_image(content, 24, 16), decode_reduced(content, 16)):
        assert found.shape == upright.shape
        assert np.abs(found.astype(int) - upright).max() <= (12 if kind == "JPEG" else 0)
    assert turned == (orientation != 1 and kind != "TIFF")  # Pillow turns a TIFF itself
    assert upright_size(content) == (24, 16)
    assert image_size(content) == ((24, 16) if orientation < 5 or kind == "TIFF" else (16, 24))


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
    [png_header(10_000, 10_000), encoded(Image.fromarray(PIXELS))[:-100], encoded(Image.fromarray(PIXELS), "PPM"), b""],
)
def test_what_is_refused_at_one_size_is_refused_at_its_own(content: bytes) -> None:
    with pytest.raises(DataError):
        decode_native(content)


@pytest.mark.parametrize(("size", "orientation"), [((6000, 4000), 1), ((8000, 6000), 6)])
def test_a_photograph_of_24_and_of_48_megapixels_is_read_and_a_small_view_is_decoded_at_an_eighth(
    size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, "JPEG", quality=30, exif=exif)
    content = buffer.getvalue()
    assert min(decode_reduced(content, 192).shape[:2]) == min(size) / 8
    image, upright, turned = reduced(content, 256)
    assert (upright, turned) == ((size[1], size[0]) if orientation == 1 else size, orientation == 6)
    assert min(image.size) >= 256
    assert image.width * image.height <= size[0] * size[1] / 64
    assert image_pixels(content) == size[0] * size[1]


def test_the_limit_is_one_of_the_process_and_named_with_its_setting() -> None:
    content = encoded(Image.fromarray(PIXELS))
    allow(1000)
    try:
        with pytest.raises(DataError, match=r"has 32x32 pixels, more than 1000, the limit of MAX_MEGAPIXELS\. .*0\.001 mega"):
            decode_native(content)
    finally:
        allow(MAX_PIXELS)
    assert np.array_equal(decode_native(content), PIXELS)


def test_large_images_are_decoded_one_at_a_time_and_others_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGE_PIXELS", PIXELS.shape[0] * PIXELS.shape[1] - 1)
    large, small = encoded(Image.fromarray(PIXELS)), encoded(Image.fromarray(PIXELS[:16]))
    with decoding._one_at_a_time, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(decode_native, large)
        assert decode_native(small).shape == (16, 32, 3)
        assert not waiting.done()
        decoding._one_at_a_time.release()
        assert waiting.result(60).shape == (32, 32, 3)
        decoding._one_at_a_time.acquire()


@pytest.mark.parametrize("progressive", [True, False])
def test_a_progressive_jpeg_is_large_however_small_it_becomes(progressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg holds it in full size until its last scan is read."""
    monkeypatch.setattr(decoding, "LARGE_PIXELS", 64 * 64 - 1)
    buffer = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (2, 2, 1))).save(buffer, "JPEG", progressive=progressive)
    with ThreadPoolExecutor(1) as threads:
        with decoding._one_at_a_time:
            waiting = threads.submit(decode_reduced, buffer.getvalue(), 8)
            if progressive:
                with pytest.raises(TimeoutError):
                    waiting.result(0.1)
            else:
                waiting.result(60)
        assert min(waiting.result(60).shape[:2]) >= 8
