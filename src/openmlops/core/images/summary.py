"""What is known of an image without its pixels: its size, hashes of its content, and sums for normalisation.

What is here: the summary of one file's bytes, and what a batch of summaries has in common. What is not here: reading files and
keeping summaries (images/index.py).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from openmlops.core.images import decoding
from openmlops.core.images.statistics import image_statistics
from openmlops.core.validation import packed_hashes, perceptual_hashes

RECIPE = 1
"""Number of the definitions below: summaries of another recipe are computed again."""
LEAST_SIDE = 256
"""Sides in pixels that a JPEG keeps when it is decoded at reduced size: one of 511 pixels and less is decoded whole."""
THUMBNAIL = (64, 72)
"""Height and width in pixels of the thumbnail from which perceptual hash and statistics are computed: multiples of the hash's
grid."""
_VALUES = np.arange(256)


@dataclass(frozen=True, slots=True)
class Summary:
    """One image. `digest` is equal for images of equal size and pixels, those of large JPEGs at reduced size."""

    height: int
    width: int
    """of the upright image, in pixels"""
    turned: bool
    """whether its EXIF orientation was applied"""
    blank: bool
    """whether every pixel has the same value"""
    digest: bytes
    """SHA-256 of size and pixels"""
    pixels: int
    """number of pixels that were summed"""
    sums: tuple[int, int, int]
    squares: tuple[int, int, int]
    """sums of the values (0..255) of red, green and blue, and of their squares"""
    thumbnail: np.ndarray
    """uint8 (64, 72, 3), RGB"""


def summarize(content: bytes) -> Summary:
    """The summary of an image file's bytes. Raises DataError as `decoding.decode_image` does."""
    image, (height, width), turned = decoding.reduced(content, LEAST_SIDE)
    counts = np.array(image.histogram(), dtype=np.int64).reshape(3, 256)
    red, green, blue = (int(total) for total in counts @ _VALUES)
    red_2, green_2, blue_2 = (int(total) for total in counts @ _VALUES**2)
    return Summary(
        height=height,
        width=width,
        turned=turned,
        blank=bool((counts > 0).sum() == len(counts)),
        digest=hashlib.sha256(b"%d %d " % (height, width) + image.tobytes()).digest(),
        pixels=image.width * image.height,
        sums=(red, green, blue),
        squares=(red_2, green_2, blue_2),
        thumbnail=np.asarray(image.resize((THUMBNAIL[1], THUMBNAIL[0]), Image.Resampling.BOX)),
    )


def thumbnail_columns(thumbnails: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 (n, 64, 72, 3) -> columns (n,): `hash` (uint64, perceptual) and the statistics of `image_statistics`."""
    return {"hash": packed_hashes(perceptual_hashes(thumbnails)), **image_statistics(thumbnails)}


def moments(pixels: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (3,) per channel over n images of equal weight, from their `pixels` (n,), `sums` (n, 3) and
    `squares` (n, 3)."""
    share = 1 / (len(pixels) * pixels[:, None])
    mean = (sums * share).sum(axis=0)
    return mean, np.sqrt(np.maximum((squares * share).sum(axis=0) - mean**2, 0))
