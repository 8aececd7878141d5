"""Image statistics that need no model: the features by which drift of the input is detected.

Images are uint8 (n, height, width, 3), RGB, or an object array (n,) of such images of different sizes. What is not here:
decoding of image files (core/images/decoding.py) and corruptions (core/images/corruptions.py).
Cost of all statistics: 0.025 cpu-ms per image of 32x32 (n = 10,000 of CIFAR-10, numpy 2.4).
"""

from collections.abc import Iterator

import numpy as np

_CHUNK_PIXELS = 1000 * 32 * 32
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ENTROPY_BINS = 32


def image_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """Columns float32 (n,) by name. Images need sides of at least 3 pixels.

    `brightness`, `contrast`: mean and standard deviation of luma, 0..255. `red`, `green`, `blue`: channel means, 0..255.
    `saturation`: mean of (max - min) / max over channels, 0..1. `sharpness`: log(1 + variance of the Laplacian of luma).
    `noise`: Immerkaer's estimate of the noise's standard deviation, in pixel units. `entropy`: of 32 luma bins, in bits.
    `clipped`: share of channel values that are 0 or 255.
    """
    if not len(images):
        return {name: np.empty(0, dtype=np.float32) for name in _statistics(np.empty((0, 3, 3, 3), dtype=np.uint8))}
    columns: dict[str, np.ndarray] = {}
    for rows, chunk in _chunks(images):
        for name, column in _statistics(chunk).items():
            columns.setdefault(name, np.empty(len(images), dtype=np.float32))[rows] = column
    return columns


def _chunks(images: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row indices and images uint8 (m, h, w, 3) of one size: at most _CHUNK_PIXELS pixels, or one image."""
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        of_shape.setdefault(image.shape, []).append(row)
    for shape, rows in of_shape.items():
        size = max(1, _CHUNK_PIXELS // (shape[0] * shape[1]))
        for part in (np.array(rows[start : start + size]) for start in range(0, len(rows), size)):
            yield part, np.stack(list(images[part])) if images.dtype == object else images[part]


def _statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    luma = luma_of(images)
    means = images.mean(axis=(1, 2), dtype=np.float32)
    return {
        "brightness": luma.mean(axis=(1, 2)),
        "contrast": luma.std(axis=(1, 2)),
        "red": means[:, 0],
        "green": means[:, 1],
        "blue": means[:, 2],
        "saturation": _saturation(images),
        "sharpness": np.log1p(laplacian(luma).var(axis=(1, 2))),
        "noise": _noise(luma),
        "entropy": _entropy(luma),
        "clipped": ((images == 0) | (images == 255)).mean(axis=(1, 2, 3), dtype=np.float32),
    }


def luma_of(images: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3) -> luma float32 (n, h, w), 0..255."""
    return images.astype(np.float32) @ _LUMA


def _saturation(images: np.ndarray) -> np.ndarray:
    red, green, blue = (images[..., channel] for channel in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    return ((high - low) / np.maximum(high, 1).astype(np.float32)).mean(axis=(1, 2))


def laplacian(luma: np.ndarray) -> np.ndarray:
    """Luma float32 (n, h, w) -> Laplacian (n, h - 2, w - 2): the sum of the four neighbours minus four times the pixel."""
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return around - 4 * luma[:, 1:-1, 1:-1]


def _noise(luma: np.ndarray) -> np.ndarray:
    """Mean absolute response of the difference of two Laplacians, scaled so that white noise of deviation s gives s."""
    rows = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    both = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return np.abs(both).mean(axis=(1, 2)) * np.float32(np.sqrt(np.pi / 2) / 6)


def _entropy(luma: np.ndarray) -> np.ndarray:
    n, pixels = len(luma), luma[0].size if len(luma) else 1
    bins = (luma.reshape(n, pixels) * (_ENTROPY_BINS / 256)).astype(np.int64) + np.arange(n)[:, None] * _ENTROPY_BINS
    share = np.bincount(bins.ravel(), minlength=n * _ENTROPY_BINS).reshape(n, _ENTROPY_BINS) / pixels
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
