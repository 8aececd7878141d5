"""Is one image a copy of another: re-encoded, resized, slightly cropped, brighter or darker? Decided on pixels.

What is here: thumbnails, their alignment, and the distance that is left of two after it; and which distance makes a copy, at a
scale taken from distances between different images. What is not: perceptual hashes, which propose pairs (`core.validation`),
and reading images.

The two thumbnails are aligned by shift, scale per axis, brightness and contrast (Gauss-Newton, coarse to fine). What is left is
averaged over small blocks, and the distance is the largest block: an object of one per cent of the picture that moved changes
few blocks much, a new encoding or a crop changes all of them little.
"""

import numpy as np
from PIL import Image

SIZE = (64, 72)
"""height and width in pixels of the thumbnails"""
SURE = 0.12
"""distances below are copies, whatever the data: of re-encoded photographs 99 % are below"""
LARGEST = 0.35
"""distances above are no copies, whatever the data"""
CLOSE, MARGIN = 0.05, 0.55
"""a copy is closer than this share of the distance that all but the closest of different images keep from each other"""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLOCK = 4
_LEVELS = ((4, 5), (2, 3), (1, 2))
"""smoothing (block sides in pixels) and iterations of the alignment"""
_SHIFT, _STRETCH = 0.15, 0.2
"""largest shift and change of scale, as a share of the picture"""


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> luma float32 (64, 72), 0..255."""
    small = Image.fromarray(image).resize((SIZE[1], SIZE[0]), Image.Resampling.BOX if min(image.shape[:2]) >= 64 else 2)
    return np.asarray(small, np.float32) @ _LUMA


def aligned_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Thumbnails (p, 64, 72) of p pairs -> float (p,): the largest block of what is left after the alignment, in standard
    deviations of the first image; infinite for an image of one colour."""
    if not len(first):
        return np.zeros(0)
    shift = np.zeros((len(first), 4))  # x, y, stretch of x, stretch of y, in units of half the picture
    for side, steps in _LEVELS:
        a, b = _smooth(first, side), _smooth(second, side)
        for _ in range(steps):
            shift = _improved(a, b, shift)
    return _left(first, second, shift)


def copy_threshold(nearest: np.ndarray) -> float:
    """The distance below which an image is a copy, from the distances (n,) of images to the nearest other: well below what
    nearly all different images keep. Copies among these do not count; infinite distances are of images that nothing resembles.
    """
    different = nearest[nearest > SURE]
    if not len(different):
        return SURE if len(nearest) else LARGEST
    return float(np.clip(MARGIN * np.quantile(different, CLOSE, method="lower"), SURE, LARGEST))


def _smooth(images: np.ndarray, side: int) -> np.ndarray:
    n, h, w = images.shape
    return images.reshape(n, h // side, side, w // side, side).mean(axis=(2, 4), dtype=np.float64)


def _grid(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of pixel centres, -1..1."""
    return (np.arange(w) + 0.5) / w * 2 - 1, (np.arange(h) + 0.5) / h * 2 - 1


def _warped(images: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (p, h, w) moved, and bool (p, h, w): where there is a pixel."""
    p, h, w = images.shape
    x, y = _grid(h, w)
    columns = ((x * (1 + shift[:, 2:3]) + shift[:, 0:1]) + 1) / 2 * w - 0.5
    rows = ((y * (1 + shift[:, 3:4]) + shift[:, 1:2]) + 1) / 2 * h - 0.5
    inside = ((rows >= 0) & (rows <= h - 1))[:, :, None] & ((columns >= 0) & (columns <= w - 1))[:, None, :]
    rows, columns = np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)
    top, left = np.minimum(rows.astype(np.int64), h - 2), np.minimum(columns.astype(np.int64), w - 2)
    below, right = (rows - top)[:, :, None], (columns - left)[:, None, :]
    pair = np.arange(p)[:, None]
    moved = images[pair, top] * (1 - below) + images[pair, top + 1] * below
    moved = np.take_along_axis(moved, left[:, None], 2) * (1 - right) + np.take_along_axis(moved, left[:, None] + 1, 2) * right
    return moved, inside


def _improved(a: np.ndarray, b: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """One step of Gauss-Newton on shift, scales, brightness and contrast; large residuals count little."""
    moved, inside = _warped(b, shift)
    p, h, w = moved.shape
    x, y = _grid(h, w)
    gx, gy = np.gradient(moved, axis=2) * w / 2, np.gradient(moved, axis=1) * h / 2
    columns = (gx, gy, gx * x[None, None, :], gy * y[None, :, None], moved, np.ones_like(moved))
    design = np.stack([each.reshape(p, -1) for each in columns], axis=2)
    target, weight = a.reshape(p, -1), inside.reshape(p, -1).astype(np.float64)
    for _ in range(2):
        weighted = design * weight[:, :, None]
        normal = np.einsum("pki,pkj->pij", weighted, design, optimize=True) + 1e-6 * np.eye(6)
        found = np.linalg.solve(normal, np.einsum("pki,pk->pi", weighted, target, optimize=True)[:, :, None])[:, :, 0]
        left = np.abs(target - np.einsum("pki,pi->pk", design, found, optimize=True))
        scale = np.median(left, axis=1, keepdims=True) * 1.5 + 1.0
        weight = inside.reshape(p, -1) * np.minimum(1, scale / np.maximum(left, 1e-9))
    contrast = np.where(np.abs(found[:, 4:5]) > 0.1, found[:, 4:5], 1.0)
    step = np.clip(found[:, :4] / contrast, -0.1, 0.1)
    limits = np.array([2 * _SHIFT, 2 * _SHIFT, _STRETCH, _STRETCH])
    return np.clip(shift + step, -limits, limits)


def _left(first: np.ndarray, second: np.ndarray, shift: np.ndarray) -> np.ndarray:
    moved, inside = _warped(second.astype(np.float64), shift)
    p, h, w = moved.shape
    a, weight = first.astype(np.float64), inside.astype(np.float64)
    for _ in range(3):  # contrast and brightness by least squares in which an object that moved counts little
        n = np.maximum(weight.sum(axis=(1, 2)), 1)
        means = [(weight * each).sum(axis=(1, 2)) / n for each in (a, moved)]
        da, db = a - means[0][:, None, None], moved - means[1][:, None, None]
        gain = (weight * da * db).sum(axis=(1, 2)) / np.maximum((weight * db * db).sum(axis=(1, 2)), 1e-9)
        left = np.where(inside, da - gain[:, None, None] * db, 0)
        scale = np.median(np.abs(left), axis=(1, 2), keepdims=True) * 1.5 + 1.0
        weight = inside * np.minimum(1, scale / np.maximum(np.abs(left), 1e-9))
    blocks = np.abs(left.reshape(p, h // _BLOCK, _BLOCK, w // _BLOCK, _BLOCK).mean(axis=(2, 4))).reshape(p, -1)
    spread = a.std(axis=(1, 2))
    return np.where((spread > 1) & (gain > 0.2), blocks.max(axis=1) / np.maximum(spread, 1), np.inf)
