"""The steps of the monitoring pipeline; implemented in `operations.monitoring`.

No step is cached: a cached `load_latest_model` would monitor the old model forever.
"""

from datetime import UTC, datetime
from typing import Annotated

from zenml import step

from openmlops.adapters.decisions import DecisionRecord
from openmlops.adapters.evidently_report import EvidentlyReport
from openmlops.core.types import ModelRef
from openmlops.operations.monitoring import monitor, windows
from openmlops.operations.monitoring.monitor import MonitoringOutcome
from openmlops.operations.monitoring.windows import WindowRef
from openmlops.operations.retries import retry
from openmlops.pipelines.stack import open_workspace


@step(enable_cache=False)
def load_latest_model() -> Annotated[ModelRef, "model"]:
    """The current champion, by the ledger."""
    return retry(windows.load_latest_model, open_workspace())


@step(enable_cache=False)
def collect_inference_data(model: ModelRef, window: int, source: str) -> Annotated[WindowRef, "window"]:
    """Write the champion's latest predictions, or those on the test set, to a new folder of MONITORING_DIR."""
    return retry(windows.collect_inference_data, open_workspace(), model, window, source, datetime.now(UTC))  # type: ignore[arg-type]


@step(enable_cache=False)
def run_evidently_report(window: WindowRef) -> Annotated[EvidentlyReport, "report"]:
    """Evidently's report of the window against the version's reference."""
    return retry(monitor.run_evidently_report, open_workspace(), window)


@step(enable_cache=False)
def trigger_decision(window: WindowRef, report: EvidentlyReport, by: str) -> Annotated[DecisionRecord, "decision"]:
    """Measure drift and accuracy, decide from them and the history, and store the decision."""
    return retry(monitor.trigger_decision, open_workspace(), window, report, datetime.now(UTC), by, window.run)


@step(enable_cache=False)
def store_monitoring_artifacts(
    window: WindowRef, report: EvidentlyReport, decision: DecisionRecord
) -> Annotated[MonitoringOutcome, "outcome"]:
    """Log files and metrics to the monitored version's MLflow run."""
    return retry(monitor.store_monitoring_artifacts, open_workspace(), window, report, decision)
