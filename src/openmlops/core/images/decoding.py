"""Decoding of untrusted image files into pixels, and encoding as PNG. FORMATS is the one list of formats that are read.

Every image is turned upright as its EXIF orientation says, as viewers, label tools and other loaders do.
The size is read from the header and checked before decompression: a PNG of 292 KB can hold 100 megapixels.
What is not here: batches of pixels (core/images/statistics.py) and a model's input size (its use case).
"""

import io
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401 (Pillow imports every plugin at once otherwise)

from openmlops.core.images.headers import excess
from openmlops.errors import DataError

FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
"""Format -> suffixes of its files. Of several frames or pages the first is read. The content decides, not the suffix."""
HEIF: dict[str, tuple[str, ...]] = {"HEIF": (".heic", ".heif")} if find_spec("pillow_heif") else {}
"""The same for HEIF, if its plugin for Pillow is installed."""
SUFFIXES = tuple(suffix for suffixes in (FORMATS | HEIF).values() for suffix in suffixes)
NAMES = "JPEG, PNG, WebP, BMP, TIFF, GIF" + (", HEIC" if HEIF else "")
"""The formats, as messages name them."""
UNREAD = (".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".tga", ".ppm")
"""Suffixes of pictures that are not read; HEIC and HEIF are with the plugin."""
MAX_PIXELS = 64_000_000
"""Default for the largest image that is decoded: 64 megapixels, about 200 MB in memory and two seconds. See `allow`."""
LARGE_PIXELS = 16_000_000
"""Images of more pixels are decoded one at a time, in whatever threads."""

_one_at_a_time = threading.Lock()
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the stored pixels upright. `ImageOps.exif_transpose` would also rewrite the EXIF data, which
fails if they are broken."""
_SIDEWAYS = (5, 6, 7, 8)
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""Exceptions that Pillow raises for broken files, including UnidentifiedImageError (an OSError)."""


warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
"""A hostile file would write one line for each of its tags."""
Image.MAX_IMAGE_PIXELS = None
"""Pillow's own limit warns on standard error: `_open` refuses by ours, before anything is decoded."""
PngImagePlugin.MAX_TEXT_MEMORY = 4 * 1024 * 1024
"""Texts of a PNG are decompressed, although nobody reads them; Pillow takes 64 MB."""


class _Limit:
    """The largest image that this process decodes, in pixels."""

    pixels = MAX_PIXELS


def allow(pixels: int) -> None:
    """Decode images of up to so many pixels in this process (the setting MAX_MEGAPIXELS), which is checked in the header."""
    _Limit.pixels = pixels


def decode_image(content: bytes, height: int, width: int) -> np.ndarray:
    """A file of FORMATS -> uint8 (height, width, 3), RGB.

    Other sizes are resized, ignoring the aspect ratio, by Pillow's bilinear filter with antialiasing; transparency is dropped.
    Raises DataError for other formats, broken files, and images that are too large (`allow`).
    """
    return _resized(_rgb(content), height, width)


def decode_native(content: bytes) -> np.ndarray:
    """A file of FORMATS -> uint8 (h, w, 3), RGB, at the file's own size. Raises DataError as `decode_image` does."""
    return np.array(_rgb(content))


def upright_pixels(image: Image.Image) -> np.ndarray:
    """A Pillow image -> uint8 (h, w, 3), RGB, upright, its transparency dropped. Raises DataError as `decode_image` does."""
    return np.array(_loaded(image))


def decode_reduced(content: bytes, least: int) -> np.ndarray:
    """A file of FORMATS -> uint8 (h, w, 3), RGB, with its aspect ratio, faster for photographs. Raises DataError as
    `decode_image` does.

    A JPEG is decoded at a half, a quarter or an eighth of its size (libjpeg averages the pixels) as long as both sides keep
    `least` pixels.
    """
    return np.array(_drafted(_open(content), least))


def reduced(content: bytes, least: int) -> tuple[Image.Image, tuple[int, int], bool]:
    """The image as RGB, upright; its (height, width) upright; and whether the stored pixels were turned or mirrored.

    A JPEG is decoded at a half, a quarter or an eighth of its size as long as both sides keep `least` pixels, which bounds time
    and memory. Raises DataError as `decode_image` does.
    """
    image = _open(content)
    orientation = _orientation(image)
    size = (image.width, image.height) if orientation in _SIDEWAYS else (image.height, image.width)
    return _drafted(image, least), size, orientation in _TURNS


def is_image(path: Path) -> bool:
    """Whether it is a file whose suffix is that of one of FORMATS. One that cannot be looked at is: reading it says why."""
    try:
        return path.suffix.lower() in SUFFIXES and path.is_file()
    except OSError:
        return True


def png(image: np.ndarray) -> bytes:
    """An image uint8 (h, w, 3) as lossless PNG. The pixels are the same on every machine; the bytes depend on zlib."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def suffix(content: bytes) -> str:
    """The usual suffix of the file's format, as `.jpg`. Raises DataError as `image_size` does."""
    return (FORMATS | HEIF).get(_open(content).format or "", FORMATS["JPEG"])[0]  # MPO, a JPEG with further frames


def image_size(content: bytes) -> tuple[int, int]:
    """(height, width) in pixels as stored, from the header only. Raises DataError for headers that `decode_image` rejects."""
    image = _open(content)
    return image.height, image.width


def upright_size(content: bytes) -> tuple[int, int]:
    """(height, width) of `decode_native`'s pixels. Raises DataError as `image_size` does.

    Reads a PNG to its end, because its EXIF data may be there.
    """
    image = _open(content)
    return (image.width, image.height) if _orientation(image) in _SIDEWAYS else (image.height, image.width)


def image_pixels(content: bytes) -> int:
    """Width times height, from the header only. Raises DataError as `image_size` does."""
    height, width = image_size(content)
    return height * width


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8: 1 is as stored, and the default where there is none or it cannot be read.

    Pillow turns a TIFF itself, and has its size upright in the header.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _UNREADABLE:
        return 1


def _resized(rgb: Image.Image, height: int, width: int) -> np.ndarray:
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(rgb)


def _rgb(content: bytes) -> Image.Image:
    """The decoded image."""
    return _loaded(_open(content))


def _drafted(image: Image.Image, least: int) -> Image.Image:
    """As RGB, upright; a JPEG at a reduced size that keeps `least` pixels on both sides. libjpeg holds a progressive one in
    full size all the same."""
    held = image.width * image.height if image.info.get("progressive") else 0
    image.draft("RGB", (least, least))
    return _loaded(image, held)


def _loaded(image: Image.Image, held: int = 0) -> Image.Image:
    """As RGB, upright. `held`: pixels that are in memory while it is decoded, if they are more than those of the image."""
    try:
        with _one_at_a_time if max(image.width * image.height, held) > LARGE_PIXELS else nullcontext():
            image.load()
            turn = _TURNS.get(_orientation(image))
            return (image if turn is None else image.transpose(turn)).convert("RGB")
    except _UNREADABLE as error:
        raise _refused(f"is a broken {image.format} file ({error})") from error


def _open(content: bytes) -> Image.Image:
    """The image with its header read and checked, its pixels not yet decoded."""
    formats = FORMATS
    if HEIF and content[4:8] == b"ftyp":
        import_module("pillow_heif").register_heif_opener()
        formats = HEIF
    if problem := excess(content):
        raise _refused(problem)
    try:
        image = Image.open(io.BytesIO(content), formats=tuple(formats))
        tile = _tile_pixels(image)
    except _UNREADABLE as error:
        raise _refused(_instead(content)) from error
    if image.width * image.height > _Limit.pixels:
        raise _refused(f"has {image.width}x{image.height} pixels, more than {_Limit.pixels}, the limit of MAX_MEGAPIXELS")
    if tile > _Limit.pixels:
        raise _refused(f"is a TIFF file with tiles of more than {_Limit.pixels} pixels")
    if image.mode.startswith(("I", "F")):
        raise _refused(f"has pixels of mode {image.mode}, not 8 bits a channel")
    return image


def _instead(content: bytes) -> str:
    """What a file is that is no image."""
    if content.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS: run `git lfs pull` where the file comes from"
    if content[:100].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page"
    return f"is none of {NAMES}"


def _tile_pixels(image: Image.Image) -> int:
    """Pixels of a TIFF's tile, which is decoded as a whole however small the image is; 0 for a file without tiles."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0
    return int(image.tag_v2.get(_TILE_WIDTH, 0)) * int(image.tag_v2.get(_TILE_LENGTH, 0))


def _refused(problem: str) -> DataError:
    return DataError(f"The image {problem}", f"Send a complete file of {NAMES}, at most {_Limit.pixels / 10**6:g} megapixels")
