"""Names, numbers and texts within MLflow's limits: invalid values are converted or raise, secrets are left out.

MLflow itself is not imported here.
"""

import hashlib
import math
import posixpath
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
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

MOST_CHARACTERS = 250
"""of the name of a metric in MLflow"""

_KEPT = string.ascii_lowercase + string.digits
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
    """Metrics by their names in MLflow (`distinct_names`). Raises TrainingError for a value that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(f"The metric '{name}' has the value {value}", "Log only finite numbers")
    return {valid: float(metrics[name]) for name, valid in distinct_names(tuple(metrics)).items()}


def distinct_names(names: Sequence[str]) -> dict[str, str]:
    """Name of a metric -> its name in MLflow: valid, and never the same for two, whatever the classes are called.

    It is `valid_name`, unless MLflow does not take that for a path, or another metric has it: those of `C++` and `C#`, or of
    `cat` and `Cat` where MLflow's database ignores case. The part after the first `/` is then spelled (`_spelled`). Raises
    TrainingError if two are the same even then.
    """
    plain = {name: valid_name(name) for name in names}
    times = Counter(valid.casefold() for valid in plain.values())
    unchanged = Counter(valid.casefold() for name, valid in plain.items() if name == valid)
    found = {}
    for name, valid in plain.items():
        is_alone = times[valid.casefold()] == 1 or (name == valid and unchanged[valid.casefold()] == 1)
        found[name] = _short(name, valid if is_alone and posixpath.normpath(valid) == valid else _spelled(name))
    if len({valid.casefold() for valid in found.values()}) < len(found):
        raise TrainingError(f"Of the metrics {', '.join(names)}, two have one name in MLflow", "Give them distinct names")
    return found


def _spelled(name: str) -> str:
    """`recall/C++` -> `recall/:43::2b::2b:`: the code of every character but lower-case letters and digits."""
    group, slash, rest = name.partition("/") if "/" in name else ("", "", name)
    return valid_name(group) + slash + "".join(c if c in _KEPT else f":{ord(c):x}:" for c in rest)


def _short(name: str, valid: str) -> str:
    """A name of at most MOST_CHARACTERS; a longer one is cut and ends in a hash of the whole."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return valid if len(valid) <= MOST_CHARACTERS else f"{valid[: MOST_CHARACTERS - 13]}_{digest}"


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
