"""Image corruptions for tests and simulated drift, and the boxes of objects after them.

Images are uint8 (n, height, width, 3), RGB, or an object array (n,) of such images of different sizes. Dense arrays hold small
images; their noise and blur are in pixels. In an object array noise is coarser and blur wider in larger images, because
downscaling to the model's input would remove them otherwise. What is not here: image statistics (core/images/statistics.py).
Cost per image of about 640x480: 2 to 5 cpu-ms, blur 9, night 19 (COCO128, n = 32, one core of an Intel Xeon, numpy 2.4,
Pillow 13.0.0).
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from openmlops.core.images.boxes import objects
from openmlops.errors import DataError

SEVERITIES = (1, 2, 3, 4, 5)
GRAIN_SIDE = 320
"""Longer side in pixels up to which noise is drawn per pixel; in larger images a grain covers several pixels."""
BLUR_SIDE = 160
"""Longer side in pixels above which the radius of blur, 0.35 to 1.75 pixels, grows in proportion."""
VISIBLE = 0.2
"""Share of a box's area that must stay visible for the box to be kept."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ZOOM = (1.25, 1.5, 1.85, 2.3, 3.0)
_CROP = (0.85, 0.72, 0.6, 0.5, 0.4)
_OCCLUDED = (0.06, 0.12, 0.2, 0.3, 0.42)
_LIGHT = (0.55, 0.38, 0.26, 0.18, 0.12)

Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels, edges"""


def corrupt(images: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """A corrupted copy of the same shape and type; the same arguments give the same bytes. Raises DataError.

    `kind` is one of CORRUPTIONS; `severity` runs from 1 (barely visible) to 5 (hard to recognise). Random numbers depend on
    `seed` and on the image's index in `images`.
    """
    require(kind, severity)
    if images.dtype != object and kind in _DENSE:
        return _pixels(_DENSE[kind](images.astype(np.float32), severity, np.random.default_rng(seed)))
    changed = [_one(image, kind, severity, seed, index) for index, image in enumerate(images)]
    return objects(changed) if images.dtype == object else np.array(changed, dtype=np.uint8).reshape(images.shape)


def corrupt_one(image: np.ndarray, kind: str, severity: int, seed: int, index: int) -> np.ndarray:
    """The image with this index among images of different sizes, uint8 (h, w, 3), corrupted as `corrupt` does. Raises
    DataError."""
    require(kind, severity)
    return _one(image, kind, severity, seed, index)


def view(kind: str, severity: int, size: tuple[int, int]) -> Rectangle | None:
    """The part of an image of `size` (height, width) that fills the frame afterwards; None if the geometry is unchanged.

    `zoom` keeps the centre, `crop` the lower right, as if the camera had been turned away. Raises DataError.
    """
    require(kind, severity)
    if kind not in _SEEN:
        return None
    share, at = _SEEN[kind](severity)
    (y1, y2), (x1, x2) = (_span(side, share, at) for side in size)
    return x1, y1, x2, y2


def occluded(severity: int, size: tuple[int, int], seed: int, index: int) -> Rectangle:
    """The part of the image with this index and `size` (height, width) that `occlusion` covers."""
    rng = np.random.default_rng((seed, index))
    tall = rng.uniform(0.65, 1.5)
    shares = np.sqrt(_OCCLUDED[severity - 1] * np.array([tall, 1 / tall]))
    (y1, y2), (x1, x2) = (_span(side, share, rng.uniform()) for side, share in zip(size, shares, strict=True))
    return x1, y1, x2, y2


def moved(boxes: np.ndarray, kind: str, severity: int, size: tuple[int, int], seed: int = 0, index: int = 0) -> np.ndarray:
    """The true boxes float32 (m, 5), x1 y1 x2 y2 class, of an image of `size` (height, width) after its corruption.

    Boxes are clipped to the visible part and rescaled. Those with less than VISIBLE of their area left are dropped, so the
    result is (m', 5). `seed` and `index` are those of `corrupt`; only `occlusion` needs them. Raises DataError.
    """
    if kind == "occlusion":
        require(kind, severity)
        return boxes[1 - _share(boxes, occluded(severity, size, seed, index)) >= VISIBLE].astype(np.float32)
    seen = view(kind, severity, size)
    if seen is None:
        return boxes.astype(np.float32)
    kept = boxes[_share(boxes, seen) >= VISIBLE].astype(np.float32)
    scale = np.array([size[1] / (seen[2] - seen[0]), size[0] / (seen[3] - seen[1])] * 2, dtype=np.float32)
    kept[:, :4] = (_clipped(kept, seen) - np.array(seen[:2] * 2, dtype=np.float32)) * scale
    return kept


def all_moved(labels: Sequence[np.ndarray], sizes: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """`moved` for every image of `corrupt(images, kind, severity, seed)`, whose `sizes` are (n, 2: height, width): an object
    array (n,) of float32 (m, 5)."""
    pairs = enumerate(zip(labels, sizes.tolist(), strict=True))
    return objects([moved(boxes, kind, severity, (height, width), seed, index) for index, (boxes, (height, width)) in pairs])


def require(kind: str, severity: int) -> None:
    """Raises DataError if there is no such corruption."""
    if kind not in CORRUPTIONS or severity not in SEVERITIES:
        remedy = f"Use one of {', '.join(CORRUPTIONS)} at a severity of 1 to 5"
        raise DataError(f"There is no corruption '{kind}' with severity {severity}", remedy)


def _span(side: int, share: float, at: float) -> tuple[int, int]:
    """Start and end in pixels of `share` of a side, at least one pixel; `at` is its position, 0 (start) to 1 (end)."""
    length = min(side, max(1, round(side * share)))
    start = round((side - length) * at)
    return start, start + length


def _clipped(boxes: np.ndarray, to: Rectangle) -> np.ndarray:
    low, high = np.array(to[:2] * 2, dtype=np.float32), np.array(to[2:] * 2, dtype=np.float32)
    return np.clip(boxes[:, :4], low, high)


def _share(boxes: np.ndarray, within: Rectangle) -> np.ndarray:
    """(m,), the share of each box's area inside the rectangle; 0 for a box without area."""
    inside, whole = _area(_clipped(boxes, within)), _area(boxes)
    return np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:4] - boxes[:, :2]).prod(axis=1, dtype=np.float64)


def _one(image: np.ndarray, kind: str, severity: int, seed: int, index: int) -> np.ndarray:
    """One image uint8 (h, w, 3), corrupted."""
    rng = np.random.default_rng((seed, index))
    size = (image.shape[0], image.shape[1])
    if (seen := view(kind, severity, size)) is not None:
        return _enlarged(image, seen)
    if kind == "occlusion":
        return _covered(image, occluded(severity, size, seed, index), rng)
    return _pixels(_SINGLE[kind](image.astype(np.float32), severity, rng))


def _pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _enlarged(image: np.ndarray, seen: Rectangle) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=seen))


def _covered(image: np.ndarray, over: Rectangle, rng: np.random.Generator) -> np.ndarray:
    """An out-of-focus object in front of the lens: a grey or brownish surface with soft blotches."""
    x1, y1, x2, y2 = over
    tone = rng.uniform(40, 130) * np.array([1, rng.uniform(0.85, 1), rng.uniform(0.75, 1)])
    blotches = Image.fromarray(_pixels(128 + 25 * rng.standard_normal((5, 5))))
    texture = np.asarray(blotches.resize((x2 - x1, y2 - y1), Image.Resampling.BICUBIC), dtype=np.float32) - 128
    changed = image.copy()
    changed[y1:y2, x1:x2] = _pixels(tone + texture[:, :, None])
    return changed


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


def _grain(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise with mean 0 and standard deviation 1, float32 of `shape` (h, w, 3), in square grains that grow with the image."""
    height, width, channels = shape
    side = max(1, round(max(height, width) / GRAIN_SIDE))
    grains = rng.standard_normal((-(-height // side), -(-width // side), channels), dtype=np.float32)
    return grains.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]


def _grainy(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    return image + _grain(image.shape, rng) * (8 * severity)


def _out_of_focus(image: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    radius = 0.35 * severity * max(1.0, max(image.shape[:2]) / BLUR_SIDE)
    return np.asarray(Image.fromarray(_pixels(image)).filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)


def _night(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Little light, bluish, and the noise of a sensor at high gain."""
    luma = (image @ _LUMA)[..., None]
    pale = luma + (image - luma) * (1 - 0.17 * severity)
    cold = pale * np.array([1 - 0.06 * severity, 1 - 0.02 * severity, 1], dtype=np.float32)
    dark = 255 * (cold.clip(0) / 255) ** (1 + 0.08 * severity) * _LIGHT[severity - 1]
    return dark + _grain(image.shape, rng) * (1.5 * severity + 0.6 * np.sqrt(dark))


Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

_DENSE: dict[str, Corruption] = {"brightness": _brightness, "noise": _noisy, "blur": _blur, "contrast": _contrast}
"""Corruptions of float32 (n, h, w, 3), the whole array at once."""

_SINGLE: dict[str, Corruption] = {
    "brightness": _brightness,
    "noise": _grainy,
    "blur": _out_of_focus,
    "contrast": lambda image, severity, rng: _contrast(image[None], severity, rng)[0],
    "night": _night,
}
"""Corruptions of float32 (h, w, 3), one image."""

_SEEN: dict[str, Callable[[int], tuple[float, float]]] = {
    "zoom": lambda severity: (1 / _ZOOM[severity - 1], 0.5),
    "crop": lambda severity: (_CROP[severity - 1], 1.0),
}
"""Severity -> the share of each side that is kept, and its position along the side: 0 for the start, 1 for the end."""

CORRUPTIONS = (*_SINGLE, "occlusion", *_SEEN)
"""Every kind of corruption."""
