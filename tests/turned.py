"""Photographs as cameras store them: pixels turned or mirrored, and an EXIF orientation that says so."""

import io

import numpy as np
from PIL import Image

_STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
ORIENTATIONS = tuple(_STORED)


def photograph(upright: np.ndarray, orientation: int, kind: str = "PNG") -> bytes:
    """A file whose pixels, turned as its EXIF orientation (1 to 8) says, are `upright`, uint8 (h, w, 3)."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0}
    Image.fromarray(np.ascontiguousarray(_STORED[orientation](upright))).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()
