"""What a person asks of an evaluation: which errors are worst, which classes are confused, and where the score is low.

Values, and their computation from labels and predictions. What is not here: pictures (operations/release), and the model.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from openmlops.core.quality import ClassificationEvaluation, Evaluation
from openmlops.core.types import Interval, Value

MOST_PAIRS = 10
"""confused pairs that are listed"""
FEWEST = 10
"""fewest images of a slice"""
MOST_SOURCES = 8
"""most sources that file names are taken to tell apart"""


class ConfusedPair(Value):
    """`count` of the `n` images (or boxes) of the class `true` were predicted as `predicted`."""

    true: str
    predicted: str
    count: int
    n: int


class SliceScore(Value):
    """The score, with its 95 % interval, of the `n` images of a slice: `by` what they are sliced, and the slice's `name`."""

    by: str
    name: str
    n: int
    score: Interval


class Picture(Value):
    """A picture of the report: its file beside the report, and its title."""

    file: str
    title: str


class Explanations(Value):
    """What explains one evaluation."""

    metric: str
    split: str
    n: int
    score: Interval
    pairs: tuple[ConfusedPair, ...]
    slices: tuple[SliceScore, ...]
    pictures: tuple[Picture, ...]
    kept: str = ""
    """which stage of the training the weights are of"""


def confused_pairs(evaluation: Evaluation) -> tuple[ConfusedPair, ...]:
    """The most frequent confusions, the largest number first. `background` are missed boxes and false ones."""
    names = [score.name for score in evaluation.classes]
    if not isinstance(evaluation, ClassificationEvaluation):
        names.append("background")
    confusion = np.array(evaluation.confusion)
    totals = confusion.sum(axis=1)
    np.fill_diagonal(confusion, 0)
    order = np.argsort(-confusion, axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(place), len(names)) for place in order]
    return tuple(
        ConfusedPair(true=names[i], predicted=names[j], count=int(confusion[i, j]), n=int(totals[i]))
        for i, j in places
        if confusion[i, j]
    )


def worst_errors(labels: np.ndarray, probabilities: np.ndarray, most: int) -> np.ndarray:
    """Rows int64 of the wrong predictions of a classifier, the most confident first."""
    predicted, rows = probabilities.argmax(axis=1), np.arange(len(labels))
    wrong = rows[predicted != labels]
    surplus = probabilities[wrong, predicted[wrong]] - probabilities[wrong, labels[wrong]]
    return wrong[np.argsort(-surplus, kind="stable")][:most]


def thirds(values: np.ndarray, names: tuple[str, str, str]) -> list[tuple[str, np.ndarray]]:
    """Float (n,) -> named rows of the lowest, the middle and the highest third; none if the values are all about the same."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    parts = (values <= low, (values > low) & (values <= high), values > high)
    bounds = (f"up to {low:.0f}", f"{low:.0f} to {high:.0f}", f"above {high:.0f}")
    named = [(f"{name} ({bound})", np.flatnonzero(part)) for name, bound, part in zip(names, bounds, parts, strict=True)]
    return named if low < high and all(len(rows) >= FEWEST for _, rows in named) else []


def sources(paths: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """File paths -> named rows of each source: files that differ in their number only, such as `cam1_0001.jpg`.

    None unless there are two to MOST_SOURCES of them, each with at least FEWEST images.
    """
    names = [re.sub(r"\d*$", "", path.rpartition("/")[2].rpartition(".")[0]) for path in paths]
    counts = Counter(names)
    if not 2 <= len(counts) <= MOST_SOURCES or min(counts.values()) < FEWEST:
        return []
    return [(f"{name}*", np.flatnonzero(np.array(names) == name)) for name in sorted(counts)]
