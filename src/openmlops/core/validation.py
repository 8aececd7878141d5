"""Checks of labelled images that apply to any classification data set. Each returns the problems it found.

What is here: arrays in, `Problem`s out; blocking ones where training on the data would be wrong, warnings otherwise. What is
not: reading files, and what the files of one data set must contain (its use case).
Claim: all checks of 60,000 images of 32x32 take about 2.5 cpu-seconds (numpy 2.4), most of it the near-duplicate search.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from openmlops.core.types import Problem

DUPLICATE_SHARE = 0.01
"""Share of test images that may also be training images; above it the test metrics are meaningless, and training is blocked."""
CONSTANT_SHARE = 0.01
"""Share of single-colour images in a file above which the file counts as broken."""
RARE_SHARE = 0.1
"""A class with fewer images than this share of the mean class count is reported as rare."""
NEAR_BITS = 4
"""Largest Hamming distance (of 64 bits) between the perceptual hashes of near duplicates. In CIFAR-10 it finds 68 test images,
of which 97 % have the label of their near duplicate; at 7 bits half of the matches are chance."""
SHOWN_ROWS = 5

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_GRID = (8, 9)
_BITS = 64
_PAIRS = 1_000_000
"""Pairs of hashes that are compared at once."""
_PARTS = tuple(np.uint64(((1 << (64 * (part + 1) // 6)) - 1) ^ ((1 << (64 * part // 6)) - 1)) for part in range(6))
"""Masks of six nearly equal parts of 64 bits."""


def problem(what: str, where: str, rows: Iterable[int] = (), blocking: bool = True, altered: bool = False) -> Problem:
    """A problem with these rows: the first five are kept, all are counted."""
    listed = [int(row) for row in rows]
    shown = tuple(listed[:SHOWN_ROWS])
    return Problem(what=what, where=where, rows=shown, count=max(len(listed), 1), blocking=blocking, altered=altered)


def fewer(problems: Iterable[Problem]) -> list[Problem]:
    """The first five problems of each kind, and one that counts the rest."""
    kept, counts = [], Counter[tuple[str, bool, bool]]()
    for each in problems:
        counts[each.what, each.blocking, each.altered] += 1
        if counts[each.what, each.blocking, each.altered] <= SHOWN_ROWS:
            kept.append(each)
    for (what, blocking, altered), count in counts.items():
        if count > SHOWN_ROWS:
            more = f"{count - SHOWN_ROWS} more files with the same problem: {what}"
            kept.append(problem(more, "further files", blocking=blocking, altered=altered))
    return kept


def listed(what: str, where: str, examples: list[str], blocking: bool) -> Problem:
    """A problem with files, the first five of which are named."""
    shown = "; ".join(examples[:SHOWN_ROWS]) + ("; ..." if len(examples) > SHOWN_ROWS else "")
    return Problem(what=f"{what}: {shown}", where=where, count=len(examples), blocking=blocking)


def check_array(array: object, dtype: str, columns: int, where: str) -> list[Problem]:
    """Check that it is a two-dimensional array of this dtype with this many columns and at least one row."""
    if not isinstance(array, np.ndarray):
        return [problem(f"data is a {type(array).__name__}, not an array", where)]
    if array.dtype != np.dtype(dtype):
        return [problem(f"data has the dtype {array.dtype}, not {dtype}", where)]
    if array.ndim != 2 or array.shape[1] != columns:
        return [problem(f"data has the shape {array.shape}, not (n, {columns})", where)]
    return [] if len(array) else [problem("data has no rows", where)]


def check_labels(labels: Sequence[object] | np.ndarray, rows: int, classes: int, where: str) -> list[Problem]:
    """Check that there is one label per row, each an integer from 0 to `classes` - 1."""
    found = []
    if len(labels) != rows:
        found.append(problem(f"there are {len(labels)} labels for {rows} images", where))
    wrong = [row for row, label in enumerate(labels) if not _is_label(label, classes)]
    if wrong:
        values = sorted({repr(labels[row])[:20] for row in wrong})[:SHOWN_ROWS]
        found.append(problem(f"labels {', '.join(values)} are outside 0..{classes - 1}", where, wrong))
    return found


def _is_label(label: object, classes: int) -> bool:
    return isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= int(label) < classes


def check_balance(labels: np.ndarray, names: Sequence[str], where: str) -> list[Problem]:
    """Check that every class has images. A class with far fewer than the mean is only a warning."""
    counts = np.bincount(labels, minlength=len(names))
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    rare = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if 0 < count < RARE_SHARE * counts.mean()]
    found = []
    if absent:
        named = ", ".join(absent[:20]) + (", ..." if len(absent) > 20 else "")
        found.append(problem(f"no images of {named}; add some, or leave the class out", where))
    if rare:
        found.append(
            problem(f"few images of {', '.join(rare)}; the average class has {counts.mean():.0f}", where, blocking=False)
        )
    return found


def check_constant(images: np.ndarray, where: str) -> list[Problem]:
    """Find images (n, ...) whose values are all equal: black, white or never written. Blocking above CONSTANT_SHARE."""
    flat = images.reshape(len(images), -1)
    rows = np.flatnonzero((flat == flat[:, :1]).all(axis=1))
    if not len(rows):
        return []
    return [problem("every pixel has the same value", where, rows, blocking=len(rows) > CONSTANT_SHARE * len(images))]


def check_duplicates(train: np.ndarray, test: np.ndarray, where_train: str, where_test: str) -> list[Problem]:
    """Find images (n, height, width, 3) of `test` that are exact or near duplicates of `train`, and repeats inside `train`.

    Exact duplicates in more than DUPLICATE_SHARE of the test images are blocking. Near duplicates (perceptual hashes within
    NEAR_BITS, not equal) and repeats are warnings.
    """
    in_train = content_hashes(train)
    known = set(in_train)
    exact = np.array([digest in known for digest in content_hashes(test)], dtype=bool)
    near = near_duplicates(test, train) & ~exact
    found = []
    if exact.any():
        blocking = exact.sum() > DUPLICATE_SHARE * len(test)
        found.append(problem(f"test images are also in {where_train}", where_test, np.flatnonzero(exact), blocking))
    if near.any():
        what = f"test images are near-duplicates of images in {where_train} (perceptual hash)"
        found.append(problem(what, where_test, np.flatnonzero(near), blocking=False))
    first = {digest: row for row, digest in reversed(list(enumerate(in_train)))}
    if repeats := [row for row, digest in enumerate(in_train) if first[digest] != row]:
        found.append(problem("images are duplicates of earlier ones", where_train, repeats, blocking=False))
    return found


def content_hashes(images: np.ndarray) -> list[bytes]:
    """SHA-256 over size and pixels of each of n images: equal if and only if the images are.

    Images are an array (n, height, width, 3), or an object array (n,) of images of different sizes; the hashes are the same.
    """
    return [hashlib.sha256(b"%d %d " % image.shape[:2] + image.tobytes()).digest() for image in images]


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """float32 (n, 64) of 1 and -1: a difference hash, the signs of horizontal differences on an 8x9 grid of mean luma.

    Two rows with the dot product d differ in (64 - d) / 2 bits. The hash survives changes of brightness or contrast and most
    recompression; equal hashes prove nothing. Images (n, h, w, 3), or an object array (n,) of different sizes; images below
    8x9 pixels repeat pixels in the grid.
    """
    if images.dtype == object:
        return _hashes_by_size(images)
    chunks = np.array_split(images, max(1, len(images) // 2000))
    grid = np.concatenate([_sum_over(_sum_over(chunk, 1, _GRID[0]), 2, _GRID[1]) @ _LUMA for chunk in chunks])
    columns = np.maximum(np.diff(np.linspace(0, images.shape[2], _GRID[1] + 1).astype(int)), 1)
    means = grid / columns
    return np.where(means[:, :, 1:] > means[:, :, :-1], np.float32(1), np.float32(-1)).reshape(len(images), _BITS)


def _hashes_by_size(images: np.ndarray) -> np.ndarray:
    """Perceptual hashes of an object array, computed per image size."""
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        rows_of.setdefault(image.shape, []).append(row)
    found = np.empty((len(images), _BITS), dtype=np.float32)
    for rows in rows_of.values():
        found[rows] = perceptual_hashes(np.stack([images[row] for row in rows]))
    return found


def _sum_over(values: np.ndarray, axis: int, cells: int) -> np.ndarray:
    """Sums over `cells` nearly equal intervals of `axis`, float32 (exact up to 2**24)."""
    edges = np.linspace(0, values.shape[axis], cells + 1).astype(int)
    return np.add.reduceat(values, edges[:-1], axis=axis, dtype=np.float32)


def packed_hashes(hashes: np.ndarray) -> np.ndarray:
    """Perceptual hashes float32 (n, 64) of 1 and -1 -> uint64 (n,), one bit each."""
    return np.packbits(hashes > 0, axis=1).view(np.uint64).ravel()


def near_duplicates(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """bool (n of test,): `train` has an image whose perceptual hash is within NEAR_BITS; equal images included."""
    return near_hashes(packed_hashes(perceptual_hashes(test)), packed_hashes(perceptual_hashes(train)))


def near_hashes(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """bool (n of test,): `train` has a hash within NEAR_BITS. Both are uint64, as `packed_hashes` returns them.

    Two hashes that differ in four bits agree in two of six parts of the 64 bits. So for each pair of parts the hashes are
    sorted by these parts, and those that agree in them are compared: 15 sorts instead of a comparison of all with all.
    """
    unique, back = np.unique(test, return_inverse=True)
    known = np.unique(train)
    near = np.isin(unique, known)
    for first, second in combinations(_PARTS, 2):
        open_ = np.flatnonzero(~near)
        near[open_[_near_by(unique[open_], known, first | second)]] = True
    return near[back.reshape(-1)]


def _near_by(test: np.ndarray, train: np.ndarray, mask: np.uint64) -> np.ndarray:
    """Rows of `test` that agree with a row of `train` in the bits of `mask` and differ in at most NEAR_BITS of the others."""
    order = np.argsort(train & mask, kind="stable")
    keys, sorted_ = (train & mask)[order], train[order]
    starts, ends = (np.searchsorted(keys, test & mask, side) for side in ("left", "right"))
    found = []
    rows = np.flatnonzero(ends > starts)
    counts = np.cumsum(ends[rows] - starts[rows])
    for part in np.split(rows, np.searchsorted(counts, np.arange(_PAIRS, counts[-1] if len(counts) else 0, _PAIRS))):
        pairs = ends[part] - starts[part]
        left = np.repeat(part, pairs)
        right = np.arange(pairs.sum()) + np.repeat(starts[part] - np.cumsum(pairs) + pairs, pairs)
        differ = np.bitwise_count(test[left] ^ sorted_[right])
        found.append(np.unique(left[differ <= NEAR_BITS]))
    return np.concatenate(found)
