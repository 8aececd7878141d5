"""A small data set in CIFAR-10's layout, generated offline from real images: scikit-learn's 1,797 handwritten digits, coloured.

Each digit (8x8, from the UCI ML repository) is enlarged, shifted, and blended onto a textured background of two colours, so
that a small network needs a few epochs and loses accuracy on darker, noisier or blurred images. Training, test and `field`
images are made from different digits. All arithmetic is on integers from the raw stream of PCG64, so the bytes are the same on
every machine.
"""

from pathlib import Path

import numpy as np

from openmlops.files import write_bytes
from openmlops.usecases.cifar10 import batches
from openmlops.usecases.cifar10.data import META, SIDE, TEST, TRAIN
from openmlops.usecases.drawing import Draw as _Draw

SEED = 20261123
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PER_BATCH = 700
"""Images in each of the six files: 3,500 training and 700 test images."""
TEST_DIGITS, FIELD_DIGITS = 350, 450
"""Digits, of the 1,797, reserved for test images, and for `field` images."""
FIELD_PARTS = 3
"""Disjoint parts of `field`, which share no digit."""

_ONE = 256  # fixed point: positions and blends in 1/256


def sample(folder: Path) -> Path:
    """Write the sample into `folder` (about 13 MB, 1 s) and return the folder."""
    draw = _Draw(SEED)
    digits, labels = _digits()
    order = draw.permutation(len(labels))
    train, test = order[TEST_DIGITS + FIELD_DIGITS :], order[:TEST_DIGITS]
    for number, name in enumerate((*TRAIN, TEST)):
        source = test if name == TEST else train
        chosen = source[np.arange(number * PER_BATCH, (number + 1) * PER_BATCH) % len(source)]
        write_bytes(folder / name, batches.dump(_batch(name, _paint(digits[chosen], draw), labels[chosen])))
    meta = {b"num_cases_per_batch": PER_BATCH, b"label_names": [name.encode() for name in NAMES], b"num_vis": 3 * SIDE * SIDE}
    write_bytes(folder / META, batches.dump(meta))
    return folder


def field(count: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulated production traffic: images uint8 (count, 32, 32, 3), all different, and labels int64 (count,).

    `part` (0 to FIELD_PARTS - 1) selects digits that neither the sample nor another part uses.
    """
    digits, labels = _digits()
    order = _Draw(SEED).permutation(len(labels))[TEST_DIGITS : TEST_DIGITS + FIELD_DIGITS]
    pool = order[part::FIELD_PARTS]
    chosen = pool[np.arange(count) % len(pool)]
    return _paint(digits[chosen], _Draw(SEED + 1 + part)), labels[chosen]


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Ink int64 (1797, 8, 8) from 0 to 255, and labels int64 (1797,)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images.astype(np.int64) * 255 // 16, found.target.astype(np.int64)


def _batch(name: str, images: np.ndarray, labels: np.ndarray) -> dict[bytes, object]:
    return {
        b"batch_label": f"sample {name}".encode(),
        b"labels": labels.tolist(),
        b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
        b"filenames": [f"{NAMES[label]}_{name}_{row:04d}.png".encode() for row, label in enumerate(labels)],
    }


def _paint(ink: np.ndarray, draw: _Draw) -> np.ndarray:
    """Ink (n, 8, 8) -> uint8 (n, 32, 32, 3): the digit in a light or dark colour on its own background."""
    n = len(ink)
    mask = _placed(ink, draw)[..., None]
    ground = _ground(n, draw)
    light = draw.integers(0, 2, (n, 1, 1, 1))
    contrast = draw.integers(45, 110, (n, 1, 1, 3))
    mean = ground.sum(axis=(1, 2), keepdims=True) // (SIDE * SIDE)
    colour = np.where(light == 1, mean + contrast, mean - contrast)
    speckle = draw.integers(-8, 9, (n, SIDE, SIDE, 3))
    return np.clip(ground + (colour - ground) * mask // 255 + speckle, 0, 255).astype(np.uint8)


def _placed(ink: np.ndarray, draw: _Draw) -> np.ndarray:
    """Ink (n, 8, 8) -> (n, 32, 32): enlarged bilinearly to 18..28 pixels in each direction, at a random position."""
    n = len(ink)
    sizes = draw.integers(18, 29, (n, 2))
    corners = draw.integers(0, SIDE, (n, 2)) * (SIDE - sizes + 1) // SIDE
    rows, across = (_axis(sizes[:, axis], corners[:, axis], ink.shape[1]) for axis in (0, 1))
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    return _blend(_blend(padded, *rows, axis=1), *across, axis=2)


def _axis(size: np.ndarray, corner: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of 32 pixels: the lower of the two source cells (in a row padded by one), and the weight of the upper."""
    pixel = np.arange(SIDE)[None] - corner[:, None]
    position = (2 * pixel + 1) * cells * _ONE // (2 * size[:, None]) + _ONE // 2
    position = np.clip(position, 0, (cells + 1) * _ONE - 1)
    return position // _ONE, position % _ONE


def _blend(values: np.ndarray, lower: np.ndarray, share: np.ndarray, axis: int) -> np.ndarray:
    shape = (len(values), -1, 1) if axis == 1 else (len(values), 1, -1)
    lower, share = lower.reshape(shape), share.reshape(shape)
    low, high = np.take_along_axis(values, lower, axis), np.take_along_axis(values, lower + 1, axis)
    return (low * (_ONE - share) + high * share) // _ONE


def _ground(n: int, draw: _Draw) -> np.ndarray:
    """Backgrounds (n, 32, 32, 3): a gradient between two colours with a coarse texture."""
    first = draw.integers(60, 196, (n, 1, 1, 3))
    second = first + draw.integers(-40, 41, (n, 1, 1, 3))
    slope = draw.integers(0, 9, (n, 2, 1, 1))
    along = slope[:, 0] * np.arange(SIDE)[:, None] + (8 - slope[:, 1]) * np.arange(SIDE)[None]
    share = along[..., None] * _ONE // (16 * SIDE)
    coarse = draw.integers(-30, 31, (n, 8, 8))
    every = np.broadcast_to(np.full(n, SIDE)[:, None], (n, 2))
    cells = _axis(every[:, 0], np.zeros(n, dtype=np.int64), 8)
    texture = _blend(_blend(np.pad(coarse, ((0, 0), (1, 1), (1, 1)), mode="edge"), *cells, axis=1), *cells, axis=2)
    return (first * (_ONE - share) + second * share) // _ONE + texture[..., None]
