"""Which images are copies of others: proposed by perceptual hashes, decided on pixels (core.images.copies).

A mounted camera sends pictures whose hashes are all alike, of different things. So the distance that makes a copy is taken from
the others themselves: how near the different ones of them come to each other.
"""

import numpy as np

from openmlops.core.images.copies import LARGEST, SIZE, aligned_distances, copy_threshold, thumbnail
from openmlops.images.lazy import Images, batches, hashes

PROPOSED = 14
"""bits of 64 in which the hashes of a pair may differ; two photographs differ in so few in one of 200,000 pairs"""
ALIGNED = 2
"""of the proposed others, those that are most alike at a glance are aligned"""
LEAST_ALIKE = 0.5
"""correlation of small thumbnails below which a pair is not aligned"""
OWN = 100
"""others whose distance to the nearest of the rest gives the scale, at most"""
_AT_ONCE = 64
_ROWS = 256
"""images that are compared with all others at once: a camera's are all alike to the hash"""


def are_copies(images: Images, others: Images) -> np.ndarray:
    """bool (n,): whether an image is a copy of one of `others`: the same, or re-encoded, resized, slightly cropped, darker."""
    if not len(images) or not len(others):
        return np.zeros(len(images), bool)
    proposed = _proposed(hashes(images), hashes(others))
    if not proposed.any():
        return np.zeros(len(images), bool)
    known = _Thumbnails(others)
    distances = _nearest(_Thumbnails(images), known, proposed)
    if not (distances <= LARGEST).any():
        return np.zeros(len(images), bool)
    return distances <= _threshold(hashes(others), known)


def _threshold(hashes_of: np.ndarray, known: "_Thumbnails") -> float:
    """From a sample of the others, each with the nearest of all."""
    rows = np.sort(np.random.default_rng(0).permutation(len(hashes_of))[:OWN])
    proposed = _proposed(hashes_of[rows], hashes_of)
    proposed[np.arange(len(rows)), rows] = False
    return copy_threshold(_nearest(_Part(known, rows), known, proposed))


def _proposed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """bool (n, m): the pairs whose hashes differ in at most PROPOSED bits."""
    signs = [np.unpackbits(each.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1 for each in (first, second)]
    found = np.empty((len(first), len(second)), bool)
    for start in range(0, len(first), _ROWS):
        found[start : start + _ROWS] = signs[0][start : start + _ROWS] @ signs[1].T >= 64 - 2 * PROPOSED
    return found


def _nearest(first: "_Thumbnails | _Part", second: "_Thumbnails", proposed: np.ndarray) -> np.ndarray:
    """float (n,): the distance of each first image to the nearest of its proposed ones; infinite if there is none."""
    found = np.full(len(proposed), np.inf)
    rows, columns = np.flatnonzero(proposed.any(axis=1)), np.flatnonzero(proposed.any(axis=0))
    if not len(rows):
        return found
    theirs = second.of(columns)
    at_a_glance = _glance(theirs)
    for part in np.array_split(rows, -(-len(rows) // _ROWS)):
        ours = first.of(part)
        alike = np.where(proposed[np.ix_(part, columns)], _glance(ours) @ at_a_glance.T, -2.0)
        best = np.argsort(-alike, axis=1)[:, :ALIGNED]
        pairs = [(i, j) for i, others in enumerate(best.tolist()) for j in others if alike[i, j] >= LEAST_ALIKE]
        for start in range(0, len(pairs), _AT_ONCE):
            i, j = np.array(pairs[start : start + _AT_ONCE]).T
            np.minimum.at(found, part[i], aligned_distances(ours[i], theirs[j]))
    return found


def _glance(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails (n, 64, 72) -> (n, 1152) at half the size, of mean 0 and norm 1."""
    small = thumbnails.reshape(len(thumbnails), SIZE[0] // 2, 2, SIZE[1] // 2, 2).mean(axis=(2, 4)).reshape(len(thumbnails), -1)
    small -= small.mean(axis=1, keepdims=True)
    return np.asarray(small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6))


class _Thumbnails:
    """Thumbnails of images, each made once."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._made: dict[int, np.ndarray] = {}

    def of(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n, 64, 72)"""
        missing = np.array([row for row in rows.tolist() if row not in self._made], np.int64)
        parts = np.array_split(missing, max(1, len(missing) // _AT_ONCE)) if len(missing) else []
        for part, images in zip(parts, batches(self._images, parts), strict=True):
            self._made.update(zip(part.tolist(), map(thumbnail, images), strict=True))
        return np.stack([self._made[row] for row in rows.tolist()])


class _Part:
    """Some rows of others' thumbnails."""

    def __init__(self, whole: _Thumbnails, rows: np.ndarray) -> None:
        self._whole, self._rows = whole, rows

    def of(self, rows: np.ndarray) -> np.ndarray:
        return self._whole.of(self._rows[rows])
