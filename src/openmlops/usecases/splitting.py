"""Train, validation and test rows of a data set, and folds of it, without images in two of them. What is not here: files and
models."""

import numpy as np

from openmlops.images import lazy
from openmlops.usecases.base import Rows


def split(rows: Rows, seed: int, share: float, strata: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Row indices (int64, ascending) of `train`, `validation` and `test`.

    The test split is the publisher's, and so is the validation split if there is one; otherwise `share` of the rest is drawn
    with `seed`, stratified by `strata` (n,). Images that are also in test are removed from train and validation, those also in
    validation from train.
    """
    digests = lazy.digests(rows.images)
    test = np.flatnonzero(rows.test)
    rest = _without(np.flatnonzero(~rows.test), digests, test)
    strata = np.zeros(len(rows.test), np.int64) if strata is None else strata
    validation = _drawn(rest, seed, share, strata) if rows.validation is None else rest[rows.validation[rest]]
    return {"train": _without(np.setdiff1d(rest, validation), digests, validation), "validation": validation, "test": test}


def folds(rows: Rows, candidates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A fold int64 (n,) in 0..count-1 for each of `candidates` (rows), drawn with `seed`: pixel-identical images share a fold,
    and the classes of a classifier are spread over the folds alike."""
    digests = lazy.digests(rows.images[candidates])
    first = {digest: place for place, digest in reversed(list(enumerate(digests)))}
    order = np.random.default_rng(seed).permutation(np.array(sorted(first.values()), np.int64))
    if rows.labels.dtype != object:
        order = order[np.argsort(rows.labels[candidates[order]], kind="stable")]
    of_first = dict(zip(order.tolist(), (np.arange(len(order)) % count).tolist(), strict=True))
    return np.array([of_first[first[digest]] for digest in digests], np.int64)


def distinct(rows: Rows, candidates: np.ndarray) -> np.ndarray:
    """The first of each group of pixel-identical images among `candidates` (rows)."""
    digests = lazy.digests(rows.images[candidates])
    first = dict(reversed(list(zip(digests, candidates.tolist(), strict=True))))
    return np.array(sorted(first.values()), np.int64)


def _drawn(rest: np.ndarray, seed: int, share: float, strata: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = [np.zeros(0, np.int64)]
    for value in range(int(strata.max(initial=0)) + 1):
        of_value = rng.permutation(rest[strata[rest] == value])
        drawn.append(of_value[: round(share * len(of_value))])
    return np.sort(np.concatenate(drawn))


def _without(candidates: np.ndarray, digests: list[bytes], taken: np.ndarray) -> np.ndarray:
    """The candidates that are not pixel-identical to any of the `taken` rows."""
    known = {digests[row] for row in taken}
    return np.array([row for row in candidates if digests[row] not in known], dtype=np.int64)
