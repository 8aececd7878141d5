"""Evidently's drift report, HTML and JSON, from the same two frames as the drift test.

What is here: validation of the frames (Evidently drops missing columns and ignores NaN), one named Kolmogorov-Smirnov test
with its threshold for every column, and the share of drifted columns. What is not: the drift test itself
(`core.monitoring.drift`), which is calibrated where a share of columns is not. Evidently sends no telemetry while DO_NOT_TRACK
is set (`openmlops.telemetry`).
Claim: 0.9 cpu-seconds for 1,000 rows against 5,000 and 20 columns, 3.8 for 84 (Evidently 0.7.23, import not counted).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from openmlops.core.monitoring import feature_frames
from openmlops.core.types import Content, Value
from openmlops.files import replacing
from openmlops.plain import harmless

if TYPE_CHECKING:
    import pandas as pd

HTML = "evidently_report.html"
JSON = "evidently_report.json"
TEST = "ks"
P_VALUE = 0.01
"""p-value below which Evidently counts a column as drifted: without drift, one column in a hundred."""
DRIFT_SHARE = 0.5
"""Share of drifted columns from which Evidently's report states drift of the data set."""
MOST_ROWS = 5000
FEWEST_ROWS = 50


class EvidentlyReport(Value):
    """Evidently's results, and the two files, if they are kept for other steps. If there is no report, `problems` gives the
    reasons and the share is None."""

    share_of_drifted_columns: float | None = None
    p_values: dict[str, float] = Field(default_factory=dict)
    html: Content | None = None
    json_: Content | None = None
    problems: tuple[str, ...] = ()

    @field_validator("html", "json_", mode="before")
    @classmethod
    def _without_place(cls, given: Any) -> Any:
        """Earlier releases wrote a path here."""
        return None if isinstance(given, str) else given


def write_report(current: "pd.DataFrame", reference: "pd.DataFrame", folder: Path, seed: int = 0) -> EvidentlyReport:
    """Write both files into `folder`, from at most `MOST_ROWS` randomly sampled rows of each frame.

    Frames that cannot be compared give `problems` and no file; files of an earlier run in `folder` are deleted.
    """
    if found := _problems(current, reference):
        for name in (HTML, JSON):
            (folder / name).unlink(missing_ok=True)
        return EvidentlyReport(problems=found)
    shown = harmless(sorted(_names(reference)))  # Evidently puts names of columns into its page unescaped
    snapshot = _run(*(_drawn(frame, seed).rename(columns=shown) for frame in (current, reference)))
    with replacing(folder / HTML) as beside:
        snapshot.save_html(str(beside))
    with replacing(folder / JSON) as beside:
        snapshot.save_json(str(beside))
    share, by_shown = _read(snapshot.dict())
    p_values = {name: by_shown[shown[name]] for name in shown}
    return EvidentlyReport(share_of_drifted_columns=share, p_values=p_values)


def _problems(current: "pd.DataFrame", reference: "pd.DataFrame") -> tuple[str, ...]:
    """Why two frames cannot be compared, one phrase each."""
    found = [
        f"{name}: {text}" for name, frame in _named(current, reference) for text in feature_frames.defects(_columns(frame))
    ]
    found += [
        f"{name}: {len(f)} rows are fewer than {FEWEST_ROWS}" for name, f in _named(current, reference) if len(f) < FEWEST_ROWS
    ]
    missing, extra = sorted(_names(reference) - _names(current)), sorted(_names(current) - _names(reference))
    found += [f"current: {name} is missing" for name in missing]
    return (*found, *(f"current: {name} is not in the reference" for name in extra))


def _named(current: "pd.DataFrame", reference: "pd.DataFrame") -> "tuple[tuple[str, pd.DataFrame], ...]":
    return ("current", current), ("reference", reference)


def _names(frame: "pd.DataFrame") -> set[str]:
    return set(map(str, frame.columns))


def _columns(frame: "pd.DataFrame") -> Mapping[Any, Any]:
    return {name: frame[name].to_numpy() for name in frame.columns}


def _drawn(frame: "pd.DataFrame", seed: int) -> "pd.DataFrame":
    return frame if len(frame) <= MOST_ROWS else frame.sample(MOST_ROWS, random_state=seed)


def _run(current: "pd.DataFrame", reference: "pd.DataFrame") -> Any:
    """Evidently's snapshot: the count of drifted columns, then each column, with explicit tests."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    names = sorted(_names(reference))
    definition = DataDefinition(numerical_columns=names)
    count = DriftedColumnsCount(
        columns=names,
        drift_share=DRIFT_SHARE,
        per_column_method=dict.fromkeys(names, TEST),
        per_column_threshold=dict.fromkeys(names, P_VALUE),
    )
    report = Report([count, *(ValueDrift(column=name, method=TEST, threshold=P_VALUE) for name in names)])
    data = [Dataset.from_pandas(frame[names], data_definition=definition) for frame in (current, reference)]
    return report.run(*data)


def _read(found: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """The share of drifted columns and the p-value of each, from a snapshot's dictionary."""
    count, *columns = found["metrics"]
    return float(count["value"]["share"]), {column["config"]["column"]: float(column["value"]) for column in columns}
