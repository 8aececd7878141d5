"""Scenes of boxes and detectors of a known skill, whose hits and misses go together as those of real detectors do."""

import numpy as np

from openmlops.core.images.boxes import objects


def boxes(*rows, columns=5):
    return np.array(rows, np.float32).reshape(-1, columns)


def predicted(*rows):
    return boxes(*rows, columns=6)


def corners(count, rng):
    """float64 (count, 4) in an image of about 500x500."""
    start = rng.uniform(0, 400, (count, 2))
    return np.hstack([start, start + rng.uniform(20, 120, (count, 2))])


def scenes(n, rng, classes=1, most=6):
    """Labels of n images; class `classes` - 1 is rare, and some images are empty."""
    counts = rng.integers(0, most + 1, n)
    kinds = [rng.integers(0, classes, (count, 1)) * (rng.random((count, 1)) < 0.8) for count in counts]
    return objects([np.hstack([corners(len(kind), rng), kind]).astype(np.float32) for kind in kinds])


def difficulty(labels, rng):
    return [rng.normal(size=len(true)) for true in labels]


def detect(labels, hard, skill, rng, classes=1):
    """A detector that finds true boxes by its skill and their difficulty, which detectors share, not quite in place, sometimes
    twice or of the wrong class, and sees one thing an image that is not there."""
    predictions = []
    for true, shared in zip(labels, hard, strict=True):
        ease = skill - np.sqrt(0.8) * shared - np.sqrt(0.2) * rng.normal(size=len(true))
        seen = np.repeat(np.flatnonzero(ease > 0), 1 + (rng.random((ease > 0).sum()) < 0.1))
        size = np.tile(true[seen, 2:4] - true[seen, :2], 2)
        place = true[seen, :4] + rng.normal(0, 0.06, size.shape) * size
        wrong = rng.random(len(seen)) < 0.05
        kind = np.where(wrong, rng.integers(0, classes, len(seen)), true[seen, 4])
        ghosts = rng.poisson(1)
        real = np.column_stack([place, 1 / (1 + np.exp(-ease[seen] - rng.normal(0, 0.1, len(seen)))), kind])
        ghost = np.column_stack([corners(ghosts, rng), rng.uniform(0.05, 0.7, ghosts), rng.integers(0, classes, ghosts)])
        predictions.append(np.vstack([real, ghost]).astype(np.float32))
    return objects([found[np.argsort(-found[:, 4])] for found in predictions])


def detected(n, seed, classes=1, skill=0.8):
    rng = np.random.default_rng(seed)
    labels = scenes(n, rng, classes)
    return labels, detect(labels, difficulty(labels, rng), skill, rng, classes)


def two_detectors(n, rng, gain):
    """Labels, and the answers of two detectors that differ by `gain` in skill."""
    labels = scenes(n, rng)
    hard = difficulty(labels, rng)
    return labels, detect(labels, hard, 0.8 + gain, rng), detect(labels, hard, 0.8, rng)
