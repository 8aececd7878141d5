"""One cycle as a ZenML pipeline: monitor, decide, and, if the mode allows, retrain or roll back.

Runs the monitoring and training pipelines as children. Only here and through the registry do monitoring and training
connect. One process at a time runs a cycle (`operations.monitoring.cycle.cycle_lease`).
"""

import uuid
from typing import Any

from zenml import pipeline

from openmlops.operations.monitoring import cycle
from openmlops.operations.monitoring.cycle import CycleOutcome, Mode, Plan
from openmlops.operations.monitoring.windows import Source
from openmlops.operations.release.acts import standing
from openmlops.operations.retries import retry
from openmlops.operations.workspace import Workspace
from openmlops.pipelines.monitoring_pipeline import WINDOW, monitoring_pipeline
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.steps import cycle as steps
from openmlops.pipelines.training_pipeline import training_pipeline


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def cycle_pipeline(window: int, source: str, by: str, mode: str, config: dict[str, Any], lease: dict[str, Any]) -> None:
    """One cycle. `by` identifies it and its decision; `config` are fields of the use case's TrainConfig, `lease` those of the
    cycle's lease, without which it writes nothing."""
    monitoring_pipeline(window=window, source=source, by=by)
    plan = steps.plan_act(by, mode, lease)
    act = plan.load().act
    if act == "retrain":
        new = steps.add_new_data(plan)
        training_pipeline(config=config, lease=lease)
        steps.conclude(plan, new)
    elif act == "roll_back":
        steps.roll_back(plan)


def run_cycle(
    workspace: Workspace,
    mode: Mode,
    window: int = WINDOW,
    source: Source = "log",
    config: dict[str, Any] | None = None,
    expected: str | None = None,
) -> CycleOutcome:
    """Take the cycle lease, run the pipeline on the active stack, and return the outcome.

    `window` is a number of predictions; `config` defaults to the champion's; `expected` is the champion that the author saw.
    Raises LeaseTaken if another process runs a cycle, LedgerConflict if another version is or has become champion, LeaseLost if
    another process has acquired the lease meanwhile, and the error of a failed step.
    """
    by = f"{cycle.CYCLE}{uuid.uuid4().hex[:12]}"
    with cycle.cycle_lease(workspace) as held, cycle.failing_started_acts(workspace, held):
        if expected is not None:
            standing(workspace, workspace.model_name, expected)
        chosen = config or retry(cycle.training_config, workspace)
        lease = held.lease.model_dump(mode="json")
        values = {"window": window, "source": source, "by": by, "mode": mode, "config": chosen, "lease": lease}
        output = outputs_of(cycle_pipeline, trains=mode == "auto", **values)
        held.check()
    plan: Plan = output("plan_act")
    return retry(cycle.outcome_of, workspace, plan, mode)
