"""The monitoring pipeline in ZenML: from the current champion to a stored decision.

`openmlops monitor` runs it, and so does `python -m openmlops.pipelines.monitoring_pipeline`. Not here: acting on the
decision (`cycle`).
"""

import sys

from zenml import pipeline

from openmlops.operations.monitoring.monitor import MonitoringOutcome
from openmlops.operations.monitoring.windows import Source
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.stack import open_workspace, program
from openmlops.pipelines.steps import monitoring as steps

WINDOW = 500
"""default number of predictions in a window"""


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def monitoring_pipeline(window: int, source: str, by: str) -> None:
    """Five steps from the champion to a decision on `window` predictions of `source` (log or test-set), requested by `by`."""
    model = steps.load_latest_model()
    collected = steps.collect_inference_data(model, window, source)
    report = steps.run_evidently_report(collected)
    decision = steps.trigger_decision(collected, report, by)
    steps.store_monitoring_artifacts(collected, report, decision)


def run_monitoring(window: int = WINDOW, source: Source = "log", by: str = "a person") -> MonitoringOutcome:
    """Run the pipeline on the active stack and return its outcome. Raises the error of a failed step."""
    output = outputs_of(monitoring_pipeline, trains=False, window=window, source=source, by=by)
    outcome: MonitoringOutcome = output("store_monitoring_artifacts")
    return outcome


def main() -> None:
    """Monitor the champion's latest predictions and print the outcome as JSON."""
    open_workspace()
    print(run_monitoring().model_dump_json(indent=2))


if __name__ == "__main__":  # by its import name, so that ZenML can find the steps again
    from openmlops.pipelines import monitoring_pipeline as this

    sys.exit(program(this.main))
