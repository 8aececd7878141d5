"""Names, numbers and texts within MLflow's limits: invalid values are converted or raise, secrets are left out.

MLflow itself is not imported here.
"""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openmlops.core.quality import EpochMetrics
from openmlops.core.types import SOUNDS_SECRET, Value
from openmlops.errors import TrainingError

FAILURE_TAG = "openmlops.failure"
START_TAG = "openmlops.start"
"""tag by which `start` finds its run"""
ABANDONED_TAG = "openmlops.abandoned"
"""tag of a run that another process closed because its own had died; it can be resumed"""

_REFUSED = re.compile(r"[^\w .:/-]+")


class Epoch(Value):
    """One epoch's metrics by their MLflow names, and its end: logged again with the same time, it is stored once."""

    number: int
    at: datetime
    metrics: dict[str, float]

    @classmethod
    def of(cls, metrics: EpochMetrics, at: datetime) -> "Epoch":
        """Raises TrainingError for a value that is not finite."""
        return cls(number=metrics.epoch, at=at, metrics=finite(metrics.model_dump(exclude={"epoch"})))


def valid_name(name: str) -> str:
    """`name` with every run of characters that MLflow rejects replaced by `_`: `precision(B)` -> `precision_B`."""
    return _REFUSED.sub("_", name).strip("_ ")


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics by valid name. Raises TrainingError for a value that is not finite, and if two names become equal."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(f"The metric '{name}' has the value {value}", "Log only finite numbers")
    valid = {valid_name(name): float(value) for name, value in metrics.items()}
    if len(valid) < len(metrics):
        raise TrainingError(f"Of the metrics {', '.join(metrics)}, two have one name in MLflow", "Give them distinct names")
    return valid


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as text by dotted name; secrets are left out."""
    found: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif not (SOUNDS_SECRET.search(name) or hasattr(value, "get_secret_value")):
            found[valid_name(name)] = str(value)
    return found


def cut(texts: Mapping[str, str], length: int) -> dict[str, str]:
    """Texts truncated to MLflow's maximum length."""
    return {name: text[:length] for name, text in texts.items()}
