"""The score on labelled predictions: of a drawn sample, weighted to stand for all, or of labels that came of themselves.

Not here: which answers labels are asked for, and their weights (`core.monitoring.sampling`).
"""

from collections.abc import Callable, Sequence, Set

import numpy as np

from openmlops.adapters.inference_log import Window
from openmlops.core.intervals import Strata
from openmlops.core.monitoring.observed import LabelledAccuracy
from openmlops.core.monitoring.sampling import counted, not_for_doubt
from openmlops.operations.workspace import Workspace

MIN_LABELS = 30
"""minimum number of labelled predictions to report their accuracy: below it the interval is too wide"""

Score = Callable[[np.ndarray, Strata | None], LabelledAccuracy | None]
"""rows int64 (k,) of the labelled predictions to score, the strata that they are a sample of -> the score"""


def score_on_labels(
    workspace: Workspace, ids: Sequence[str], labelled: np.ndarray, requested: Set[str], score: Score
) -> LabelledAccuracy | None:
    """The score on those of the predictions with these ids (n,) that are `labelled` (bool (n,)); None below MIN_LABELS.

    If labels were asked for and are there, they decide alone; labels that came of themselves beside them are told apart.
    Otherwise all count but those that were asked for because the model was uncertain: `requested` names those of earlier
    releases, whose draw is not stored.
    """
    draws = workspace.label_draws.of(ids) if labelled.sum() >= MIN_LABELS else ()
    others = not_for_doubt(draws, ids, labelled, requested)
    sample = counted(draws, ids, labelled, MIN_LABELS)
    scored = score(sample.rows, sample.strata) if sample else None
    if scored is None or sample is None:
        rows = np.flatnonzero(others)
        return score(rows, None) if len(rows) >= MIN_LABELS else None
    others[sample.rows] = False
    rows = np.flatnonzero(others)
    beside = score(rows, None) if len(rows) >= MIN_LABELS else None
    return scored.model_copy(update={"apart": len(rows), "accuracy_apart": beside.accuracy if beside else None})


def score_of_window(workspace: Workspace, window: Window, requested: Set[str]) -> LabelledAccuracy | None:
    """The score on the labels that a window of the log has, as they are now; a monitoring run records it as it was then."""
    labelled = np.array([label is not None for label in window.labels], bool)
    task, classes = workspace.use_case.task, len(window.layout.classes)

    def score(rows: np.ndarray, strata: Strata | None) -> LabelledAccuracy | None:
        predictions = task.unpack([window.predictions[row] for row in rows], classes)
        labels = task.labels([label for row in rows if (label := window.labels[row]) is not None])
        return task.labelled(predictions, labels, classes, None, strata)

    return score_on_labels(workspace, window.ids, labelled, requested, score)
