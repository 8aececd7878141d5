"""Production history as pandas frames for notebooks: ledger, decisions, inference log, scores on labels.

Scores are those of the task, on labels weighted by how they were asked for; a version with too few has no score.
"""

import numpy as np
import pandas as pd

from openmlops.adapters.inference_log import Window
from openmlops.operations.monitoring.history import records_of, requested_labels
from openmlops.operations.monitoring.on_labels import score_of_window
from openmlops.operations.workspace import Workspace

LEDGER = ("sequence", "at", "kind", "version", "champion", "actor", "reasons")
DECISIONS = (
    "at",
    "id",
    "version",
    "action",
    "reasons",
    "outcome",
    "drift",
    "n",
    "statistic",
    "threshold",
    "p_value",
    "estimate",
)


def ledger(workspace: Workspace) -> pd.DataFrame:
    """One row per entry of the model's ledger, its hash chain verified. `champion` is the version in production from `at` on.

    Raises LedgerCorrupt.
    """
    entries = workspace.ledger.history(workspace.model_name)
    rows = [{**{name: getattr(entry, name) for name in LEDGER}, "reasons": "; ".join(entry.reasons)} for entry in entries]
    return _with_times(pd.DataFrame(rows, columns=list(LEDGER))).astype({"champion": "Int64"})


def decisions(workspace: Workspace, last: int = 1_000) -> pd.DataFrame:
    """One row per decision, oldest first; values that were not measured are missing, never 0."""
    rows = []
    for record in workspace.decisions.list(workspace.model_name, last):
        seen = record.observation
        estimate = seen.estimate.accuracy if seen and seen.estimate else None
        drift = {name: getattr(seen.drift, name) for name in ("n", "statistic", "threshold", "p_value")} if seen else {}
        rows.append(
            {
                **{name: getattr(record, name) for name in ("at", "id", "version", "action")},
                "reasons": "; ".join(record.reasons),
                "outcome": record.outcome.kind if record.outcome else None,
                "drift": seen.drift.outcome if seen else None,
                "estimate": estimate.value if estimate else None,
                **drift,
            }
        )
    numbers = dict.fromkeys(("n", "statistic", "threshold", "p_value", "estimate"), float)
    return _with_times(pd.DataFrame(rows, columns=list(DECISIONS))).astype(numbers)


def predictions(workspace: Workspace, version: int, last: int = 10_000) -> pd.DataFrame:
    """The last predictions of a version, oldest first, as `table` lays them out."""
    return table(workspace, version, workspace.inference_log.window(workspace.model_name, version, last))


def table(workspace: Workspace, version: int, window: Window, features: bool = True) -> pd.DataFrame:
    """Predictions as the log holds them, in the layout that docs/predictions.md describes: the task's columns, the label if
    known, latency_ms, the input's SHA-256, and the features."""
    task, names = workspace.use_case.task, window.layout.classes
    predictions = task.columns(task.unpack(window.predictions, len(names)), names) if len(window) else {}
    columns = {
        "id": window.ids,
        "at": window.at,
        "version": np.full(len(window), version),
        **predictions,
        "label": task.label_column(window.labels),
        "latency_ms": window.latency_ms,
        "input_sha256": window.input_sha256,
        **(window.columns() if features else {}),
    }
    return _with_times(pd.DataFrame(columns))


def scores(workspace: Workspace, last: int = 10_000) -> pd.DataFrame:
    """One row per current or former champion: predictions, labels, and the score on them with its 95 % interval.

    Labels that were asked for count with the weight of their sample (`on_labels`); below MIN_LABELS there is no score.
    """
    name = workspace.model_name
    requested = requested_labels(records_of(workspace, name))
    rows = []
    for version in workspace.ledger.champions(name):
        window = workspace.inference_log.window(name, version, last)
        found = score_of_window(workspace, window, requested)
        labelled = sum(label is not None for label in window.labels)
        row: dict[str, float] = {"version": version, "answers": len(window), "labels": found.n if found else labelled}
        rows.append(row | (found.accuracy.model_dump() if found else {}))
    return pd.DataFrame(rows, columns=["version", "answers", "labels", "value", "low", "high"]).set_index("version")


def _with_times(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True))
