"""What windows of a version are judged against: made once, when the version is exported, and sealed into its folder.

Beside `reference.parquet` (the features of the validation images through the exported file) a folder holds
`drift_reference.npz` and `monitoring.json`, the confidence table. Too few validation images for either is no error of the
training: then `monitoring.json` says why, and every window of that version is `not measurable` for that reason.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from openmlops.core.monitoring.accuracy_estimate import ConfidenceTable
from openmlops.core.monitoring.drift import DriftReference, calibrate
from openmlops.core.types import Value
from openmlops.errors import DataError, ModelCorrupt
from openmlops.files import write_text

DRIFT_FILE = "drift_reference.npz"
MONITORING_FILE = "monitoring.json"

T = TypeVar("T")


class MonitoringNotes(Value):
    """What a version says of how it can be monitored. Without a confidence table or a drift reference: why, in words."""

    confidence: ConfidenceTable | None = None
    no_confidence: str = ""
    no_drift: str = ""


def write_references(
    folder: Path, features: Mapping[str, np.ndarray], confidence: Callable[[], ConfidenceTable]
) -> MonitoringNotes:
    """Calibrate on the validation images: their features by name (n,), and the table that `confidence` makes or refuses."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # thousands of small matrices: with more threads this took 24 times the cpu-seconds
        drift, no_drift = _try(lambda: calibrate(features))
        table, no_confidence = _try(confidence)
    if drift:
        drift.save(folder / DRIFT_FILE)
    written = MonitoringNotes(confidence=table, no_confidence=no_confidence, no_drift=no_drift)
    write_text(folder / MONITORING_FILE, written.model_dump_json(indent=2))
    return written


def read_references(folder: Path) -> tuple[DriftReference | None, MonitoringNotes]:
    """What `write_references` left in a verified folder. Raises ModelCorrupt if it is not readable.

    A version that was registered before there was monitoring says that of itself.
    """
    path = folder / MONITORING_FILE
    if not path.exists():
        why = "the version was registered without a reference for monitoring; train again"
        return None, MonitoringNotes(no_confidence=why, no_drift=why)
    try:
        found = MonitoringNotes.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelCorrupt(f"{path} is not readable ({type(error).__name__})", "Fetch the version again") from error
    return (None if found.no_drift else DriftReference.load(folder / DRIFT_FILE)), found


def _try(make: Callable[[], T]) -> tuple[T | None, str]:
    try:
        return make(), ""
    except DataError as error:
        return None, error.problem
