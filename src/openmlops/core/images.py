"""Numbers that describe images before any model sees them, and the corruptions that tests and simulations apply.

Images are uint8 (n, height, width, 3), RGB. What is not here: decoding of image files (core/decoding.py).
Cost of all statistics: 0.025 cpu-ms an image of 32x32 (n = 10,000 of CIFAR-10, numpy 2.4).
"""

from collections.abc import Callable

import numpy as np

from openmlops.errors import DataError

SEVERITIES = (1, 2, 3, 4, 5)

_CHUNK = 1000
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ENTROPY_BINS = 32


def image_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """Columns float32 (n,) by name.

    `brightness`, `contrast`: mean and standard deviation of luma, 0..255. `red`, `green`, `blue`: channel means, 0..255.
    `saturation`: mean of (max - min) / max over channels, 0..1. `sharpness`: log(1 + variance of the Laplacian of luma).
    `noise`: standard deviation of noise after Immerkaer, in pixel units. `entropy`: of 32 luma bins, in bits.
    `clipped`: share of channel values that are 0 or 255.
    """
    chunks = [_statistics(images[start : start + _CHUNK]) for start in range(0, max(len(images), 1), _CHUNK)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]).astype(np.float32) for name in chunks[0]}


def _statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    luma = images.astype(np.float32) @ _LUMA
    means = images.mean(axis=(1, 2), dtype=np.float32)
    return {
        "brightness": luma.mean(axis=(1, 2)),
        "contrast": luma.std(axis=(1, 2)),
        "red": means[:, 0],
        "green": means[:, 1],
        "blue": means[:, 2],
        "saturation": _saturation(images),
        "sharpness": np.log1p(_laplacian(luma).var(axis=(1, 2))),
        "noise": _noise(luma),
        "entropy": _entropy(luma),
        "clipped": ((images == 0) | (images == 255)).mean(axis=(1, 2, 3), dtype=np.float32),
    }


def _saturation(images: np.ndarray) -> np.ndarray:
    red, green, blue = (images[..., channel] for channel in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    return ((high - low) / np.maximum(high, 1).astype(np.float32)).mean(axis=(1, 2))


def _laplacian(luma: np.ndarray) -> np.ndarray:
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return around - 4 * luma[:, 1:-1, 1:-1]


def _noise(luma: np.ndarray) -> np.ndarray:
    """Mean absolute answer of the difference of two Laplacians, scaled so that white noise of deviation s gives s."""
    rows = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    both = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return np.abs(both).mean(axis=(1, 2)) * np.float32(np.sqrt(np.pi / 2) / 6)


def _entropy(luma: np.ndarray) -> np.ndarray:
    n, pixels = len(luma), luma[0].size if len(luma) else 1
    bins = (luma.reshape(n, pixels) * (_ENTROPY_BINS / 256)).astype(np.int64) + np.arange(n)[:, None] * _ENTROPY_BINS
    share = np.bincount(bins.ravel(), minlength=n * _ENTROPY_BINS).reshape(n, _ENTROPY_BINS) / pixels
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)


def corrupt(images: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """A corrupted copy, uint8 of the same shape; the same arguments give the same bytes. Raises DataError.

    `kind` is one of CORRUPTIONS; `severity` runs from 1 (hardly seen) to 5 (hard to recognise).
    """
    if kind not in CORRUPTIONS or severity not in SEVERITIES:
        remedy = f"Use one of {', '.join(CORRUPTIONS)} at a severity of 1 to 5"
        raise DataError(f"There is no corruption '{kind}' of severity {severity}", remedy)
    changed = CORRUPTIONS[kind](images.astype(np.float32), severity, np.random.default_rng(seed))
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def _brightness(images: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    return images + 20 * severity


def _noisy(images: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    return images + rng.standard_normal(images.shape, dtype=np.float32) * (8 * severity)


def _blur(images: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """`severity` passes of the binomial filter (1, 2, 1) along both axes: a Gaussian of variance severity / 2 pixels."""
    for _pass in range(severity):
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        images = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return images


def _contrast(images: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (images - mean) * (1 - 0.15 * severity)


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "brightness": _brightness,
    "noise": _noisy,
    "blur": _blur,
    "contrast": _contrast,
}
