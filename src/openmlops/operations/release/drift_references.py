"""Drift references of a version: calibrated once at export and sealed into its folder.

Beside `reference.parquet` (features of the validation images, computed with the exported model) a folder holds
`drift_reference.npz` and `monitoring.json`, the confidence table. Too few validation images are not an error of the training:
`monitoring.json` then records the reason, and every window of that version is `not measurable` for it.
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
    """Monitoring data of a version: its confidence table, and the reasons if the table or the drift reference is missing."""

    confidence: ConfidenceTable | None = None
    no_confidence: str = ""
    no_drift: str = ""


def write_references(
    folder: Path, features: Mapping[str, np.ndarray], confidence: Callable[[], ConfidenceTable]
) -> MonitoringNotes:
    """Calibrate on the validation images and write the files. `features` are arrays (n,) by name; `confidence` builds the
    confidence table, or raises DataError."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # thousands of small matrices: more threads took 24 times the CPU time
        drift, no_drift = _try(lambda: calibrate(features))
        table, no_confidence = _try(confidence)
    if drift:
        drift.save(folder / DRIFT_FILE)
    written = MonitoringNotes(confidence=table, no_confidence=no_confidence, no_drift=no_drift)
    write_text(folder / MONITORING_FILE, written.model_dump_json(indent=2))
    return written


def read_references(folder: Path) -> tuple[DriftReference | None, MonitoringNotes]:
    """Read what `write_references` wrote. Raises ModelCorrupt if it is not readable.

    For a version registered without monitoring data, the notes give that as the reason.
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
