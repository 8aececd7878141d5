"""Images of any size made to fit a model's input. What is not here: letterboxing (boxes.py) and decoding (decoding.py)."""

import numpy as np
from PIL import Image


def squashed(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (height, width, 3), by Pillow's bilinear filter with antialiasing; the aspect ratio is lost."""
    if image.shape[:2] == shape:
        return image
    return np.array(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def cropped(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (height, width, 3): the largest part around the centre with that aspect ratio, resized by
    Pillow's bicubic filter with antialiasing. An image of that shape is unchanged."""
    if image.shape[:2] == shape:
        return image
    box = _shown(image.shape[:2], shape)
    return np.array(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box))


def uncropped(found: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values float32 (height, width) of what `cropped` shows of an image of `shape` (h, w) -> float32 (h, w), 0 elsewhere."""
    left, top, right, bottom = (round(side) for side in _shown(shape, (found.shape[0], found.shape[1])))
    whole = np.zeros(shape, np.float32)
    size = (max(1, right - left), max(1, bottom - top))
    whole[top:bottom, left:right] = np.asarray(Image.fromarray(found).resize(size, Image.Resampling.BILINEAR))
    return whole


def _shown(size: tuple[int, int], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest part of the aspect ratio of `shape` around the centre of an image of `size`."""
    (high, wide), (height, width) = size, shape
    scale = min(high / height, wide / width)
    top, left = max(0.0, high - scale * height) / 2, max(0.0, wide - scale * width) / 2
    return left, top, min(wide, left + scale * width), min(high, top + scale * height)
