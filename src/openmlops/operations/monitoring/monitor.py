"""Monitoring: from a window of predictions to a stored decision, its report and its files.

Here: the operations of the monitoring steps. Not here: how drift, accuracy and the decision are computed
(`core.monitoring`), where windows come from (`windows`), and acting on a decision (`cycle`).
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openmlops.adapters.decisions import DecisionRecord, new_id
from openmlops.adapters.evidently_report import HTML, JSON, EvidentlyReport, write_report
from openmlops.core.intervals import Strata
from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, LabelledAccuracy, estimate_accuracy
from openmlops.core.monitoring.drift import DriftReport, measure
from openmlops.core.monitoring.observed import Action, Observation, WorthLabelling
from openmlops.core.monitoring.policy import Labels, decide
from openmlops.core.monitoring.sampling import Request, draw_request, least_certain, seed_of
from openmlops.core.tasks import Predictions, Task
from openmlops.core.types import ModelRef, Value
from openmlops.files import write_text
from openmlops.operations.monitoring.history import basis_of, history_of, policy_of, records_of, requested_labels, span_of
from openmlops.operations.monitoring.on_labels import score_on_labels
from openmlops.operations.monitoring.run_folders import OUTCOME_FILE, show_last
from openmlops.operations.monitoring.windows import GREATEST_AGE, SEQUENCE, Source, WindowRef
from openmlops.operations.release.drift_references import read_references
from openmlops.operations.release.exporting import REFERENCE_FILE
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

SHOWN_PROBLEMS = 3
ACTIONS_TO_TAKE = ("retrain", "collect_labels", "roll_back")
SOMETHING_TO_DO = 3
"""exit code of a monitoring run"""


class DecisionSummary(Value):
    """The decision of a monitoring run; `openmlops why ID` prints the whole record. `labels` are the predictions to label."""

    id: str
    action: Action
    reasons: tuple[str, ...]
    labels: WorthLabelling = WorthLabelling()


class MonitoringOutcome(Value):
    """One monitoring run: the object that `openmlops monitor --json` prints. Values that could not be measured are None."""

    model: ModelRef
    source: Source
    simulated: bool
    n: int
    drift: DriftReport
    share_of_drifted_columns: float | None
    estimate: AccuracyEstimate | None
    labelled: LabelledAccuracy | None
    decision: DecisionSummary
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: nothing to do; 3: drift or an action to take; 4: not measurable."""
        if self.decision.action in ACTIONS_TO_TAKE or self.drift.outcome == "drift":
            return SOMETHING_TO_DO
        return 4 if self.decision.action == "not_measurable" else 0


def run_evidently_report(workspace: Workspace, window: WindowRef) -> EvidentlyReport:
    """Write Evidently's report of the window against the version's reference to the run's folder. Without a report, `problems`
    says why."""
    import pandas as pd

    reference = pd.read_parquet(workspace.registry.fetch(window.model) / REFERENCE_FILE)
    current = pd.read_parquet(window.local(workspace), columns=list(window.columns))
    report, folder = write_report(current, reference, window.folder(workspace)), window.folder(workspace)
    if report.problems:
        return report
    kept = {name: workspace.contents.keep("report", folder / file) for name, file in (("html", HTML), ("json_", JSON))}
    return report.model_copy(update=kept)


def trigger_decision(
    workspace: Workspace, window: WindowRef, report: EvidentlyReport, now: datetime, by: str, id_: str = ""
) -> DecisionRecord:
    """Measure the window, decide from it and the history, and store the decision with its evidence.

    Idempotent by `id_`: a retry returns the stored decision, which must not become part of its own history.
    """
    if kept := workspace.decisions.find(id_):
        return kept
    import pandas as pd

    frame = pd.read_parquet(window.local(workspace))
    records = records_of(workspace, window.model.name)
    observation = _observe(workspace, window, frame, report, now, requested_labels(records))
    head = workspace.ledger.head(window.model.name)
    span = span_of([at.to_pydatetime() for at in frame["at"]], window.source, records, window.model.version)
    rows = [int(row) for row in frame[SEQUENCE].dropna()]
    record = DecisionRecord(
        id=id_ or new_id(),
        model=window.model.name,
        version=window.model.version,
        at=now,
        action="nothing",
        reasons=(),
        by=by,
        observation=observation,
        span=span,
        basis=basis_of(head.sequence if head else 0, rows, span, records, window.model.version),
    )
    policy = policy_of(workspace)
    new = workspace.labelled_inputs.count_new(window.model.name)
    request = _to_label(workspace.use_case.task, window, frame, policy.labels_to_request, record.id)
    labels = Labels(new=new, wanted=request.labels)
    past = history_of(workspace, window.model, (*records, record), window.source)
    decision = decide(policy, past, labels, now)
    decided = record.model_copy(update={"action": decision.action, "reasons": decision.reasons, "labels": decision.labels})
    workspace.decisions.append(decided, request.draw if decision.action == "collect_labels" else ())
    return workspace.decisions.get(decided.id)


def _observe(
    workspace: Workspace,
    window: WindowRef,
    frame: "pd.DataFrame",
    report: EvidentlyReport,
    now: datetime,
    requested: frozenset[str],
) -> Observation:
    reference, notes = read_references(workspace.registry.fetch(window.model))
    if reference is None or not window.n:
        since = "since it became champion again" if window.outside else "yet"
        why = f"version {window.model.version} has made no predictions {since}" if reference else notes.no_drift
        drift = DriftReport(outcome="not_measurable", reasons=(why,), reference="", false_alarm_rate=0.0)
    else:
        drift = measure({name: frame[name].to_numpy() for name in window.columns}, reference)
    task = workspace.use_case.task
    predictions = _predictions(task, frame, window) if window.n else None
    estimate = estimate_accuracy(predictions, notes.confidence, drift) if notes.confidence else None
    return Observation(
        at=now,
        version=window.model.version,
        drift=drift,
        share_of_drifted_columns=report.share_of_drifted_columns,
        estimate=estimate,
        labelled=_labelled(workspace, window, frame, requested, estimate),
    )


def _predictions(task: Task, frame: "pd.DataFrame", window: WindowRef) -> Predictions:
    return task.from_columns({str(name): frame[name] for name in frame}, window.classes)


def _labelled(
    workspace: Workspace,
    window: WindowRef,
    frame: "pd.DataFrame",
    requested: frozenset[str],
    estimate: AccuracyEstimate | None,
) -> LabelledAccuracy | None:
    task = workspace.use_case.task

    def score(rows: np.ndarray, strata: Strata | None) -> LabelledAccuracy | None:
        known = frame.iloc[rows]
        labels = task.from_label_column(known["label"])
        return task.labelled(_predictions(task, known, window), labels, len(window.classes), estimate, strata)

    return score_on_labels(workspace, list(frame["id"]), frame["label"].notna().to_numpy(), requested, score)


def _to_label(task: Task, window: WindowRef, frame: "pd.DataFrame", k: int, decision: str) -> Request:
    """The request for labels of at most `k` unlabelled predictions, drawn from all of the window."""
    known = frame["label"].notna().to_numpy()
    if known.all():
        return Request(WorthLabelling(), ())
    rows = np.flatnonzero(~known)
    unlabelled = frame.iloc[rows]
    margins = task.margin(_predictions(task, unlabelled, window))
    order = least_certain(margins, unlabelled[list(window.columns)].to_numpy(np.float64), list(unlabelled["input_sha256"]), k)
    return draw_request(list(frame["id"]), known, rows[order], k, seed_of(decision))


def store_monitoring_artifacts(
    workspace: Workspace, window: WindowRef, report: EvidentlyReport, decided: DecisionRecord
) -> MonitoringOutcome:
    """Write the outcome to the run's folder, let the links of MONITORING_DIR lead there, and log it with files and metrics to
    the monitored version's MLflow run, unless somebody deleted that. Evidently's page (9 MB) is logged if there is drift or
    something to do."""
    is_logged = workspace.registered.has_run(window.model.run_id)
    folder = window.folder(workspace)
    path = folder / OUTCOME_FILE
    kept = {HTML: report.html, JSON: report.json_}
    reports = [str(workspace.contents.local(content, folder / name)) for name, content in kept.items() if content]
    files = [str(window.local(workspace)), *reports, str(path)]
    outcome = _outcome(window, report, decided, tuple(files), is_logged)
    write_text(path, outcome.model_dump_json(indent=2))
    show_last(workspace.monitoring, window.run)
    if is_logged:
        _log(workspace, window, outcome, decided)
    for content in filter(None, kept.values()):
        workspace.contents.forget(content)  # the page has 9 MB, and this was the last step
    return outcome


def _log(workspace: Workspace, window: WindowRef, outcome: MonitoringOutcome, decided: DecisionRecord) -> None:
    page, files = str(window.folder(workspace) / HTML), outcome.files
    for file in files if outcome.exit_code == SOMETHING_TO_DO else [file for file in files if file != page]:
        workspace.tracking.log_files(window.model.run_id, Path(file), f"monitoring/{decided.id}")
    workspace.tracking.log_metrics(window.model.run_id, _metrics(outcome), decided.at)


def _outcome(
    window: WindowRef, report: EvidentlyReport, decided: DecisionRecord, files: tuple[str, ...], is_logged: bool = True
) -> MonitoringOutcome:
    seen = decided.observation
    assert seen is not None
    left_out = (f"{window.left_out} predictions were excluded: their input is no longer stored",) if window.left_out else ()
    version = f"version {window.model.version}"
    if window.outside:
        why = f"of an earlier reign of {version}, or more than {GREATEST_AGE.days} days older than the newest"
        left_out = (*left_out, f"{window.outside} predictions were excluded: {why}")
    unlogged = () if is_logged else (f"Not logged to MLflow, from which the run of {version} was deleted",)
    return MonitoringOutcome(
        model=window.model,
        source=window.source,
        simulated=window.simulated,
        n=window.n,
        drift=seen.drift,
        share_of_drifted_columns=seen.share_of_drifted_columns,
        estimate=seen.estimate,
        labelled=seen.labelled,
        decision=DecisionSummary(
            id=decided.id,
            action=decided.action,  # type: ignore[arg-type]
            reasons=decided.reasons,
            labels=decided.labels,
        ),
        files=files,
        problems=(*left_out, *unlogged, *_first(report.problems)),
    )


def _first(problems: tuple[str, ...]) -> tuple[str, ...]:
    more = len(problems) - SHOWN_PROBLEMS
    return (*problems[:SHOWN_PROBLEMS], f"and {more} more") if more > 0 else problems


def _metrics(outcome: MonitoringOutcome) -> dict[str, float]:
    """Measured values by MLflow metric name; missing ones are left out."""
    estimated = outcome.estimate.accuracy if outcome.estimate else None
    found = {
        "monitoring_rows": float(outcome.n),
        "monitoring_drift_statistic": outcome.drift.statistic,
        "monitoring_drift_threshold": outcome.drift.threshold,
        "monitoring_share_of_drifted_columns": outcome.share_of_drifted_columns,
        "monitoring_estimated_accuracy": estimated.value if estimated else None,
        "monitoring_labelled_accuracy": outcome.labelled.accuracy.value if outcome.labelled else None,
    }
    return {name: value for name, value in found.items() if value is not None}
