"""How good the version in production is, as far as anything tells: its labels, else the estimate, else nothing. Of the labels
of now and those of the last monitoring run, what is worse.

The score on the test split is what was promised, and never shown as what production gets.
"""

from datetime import datetime
from typing import Literal

from openmlops.console.model_state import ModelState
from openmlops.console.registry_cache import Figures
from openmlops.console.services import Console
from openmlops.core.monitoring.observed import LabelledAccuracy
from openmlops.core.types import Interval, Value
from openmlops.operations.monitoring.history import requested_labels
from openmlops.operations.monitoring.on_labels import score_of_window
from openmlops.operations.workspace import Workspace

WINDOW = 500
"""latest predictions whose labels count, as in a monitoring run"""
REQUESTS = 50
"""latest label requests of which earlier releases have stored no draw"""


class Quality(Value):
    """What is known of a champion's `score` in production (0..1, 95 % interval) by its `source`; None if nothing is.

    `is_low`: even the upper end is below the test score by more than the policy allows. `at`: when a monitoring run measured
    it; None if it was computed now. `doubt`: why there is an estimate that is not to be relied on.
    """

    source: Literal["labels", "estimate", "nothing"] = "nothing"
    metric: str = "accuracy"
    score: Interval | None = None
    n: int = 0
    at: datetime | None = None
    is_low: bool = False
    doubt: str = ""


def quality(console: Console, state: ModelState, test: Figures | None) -> Quality:
    """What labels say, else the estimate, else nothing. Raises ServiceUnavailable."""
    found = _known(console, state)
    drop = console.workspace.settings.policy_accuracy_drop
    promised = test.score.value if test and test.score else None
    is_low = promised is not None and found.score is not None and found.score.high < promised - drop
    return found.model_copy(update={"is_low": is_low})


def _on_labels(workspace: Workspace, version: int | None) -> LabelledAccuracy | None:
    if version is None:
        return None
    requests = workspace.decisions.list(workspace.model_name, REQUESTS, ("collect_labels",))
    window = workspace.inference_log.window(workspace.model_name, version, WINDOW)
    return score_of_window(workspace, window, requested_labels(requests))


def _known(console: Console, state: ModelState) -> Quality:
    now = _on_labels(console.workspace, state.champion) if state.model == console.workspace.model_name else None
    measured = [Quality(source="labels", metric=now.metric, score=now.accuracy, n=now.n)] if now else []
    seen = state.last_seen[1] if state.last_seen else None
    if seen and (real := seen.labelled):
        measured.append(Quality(source="labels", metric=real.metric, score=real.accuracy, n=real.n, at=seen.at))
    if measured:
        return min(measured, key=lambda each: each.score.high if each.score else 1.0)
    if seen is None:
        return Quality()
    if (guess := seen.estimate) and guess.accuracy:
        if guess.trustworthy:
            return Quality(source="estimate", score=guess.accuracy, n=guess.n, at=seen.at)
        return Quality(doubt="; ".join(guess.reasons), at=seen.at)
    return Quality()
