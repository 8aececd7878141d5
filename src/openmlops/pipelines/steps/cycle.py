"""The steps that a cycle adds to monitoring and training; implemented in `operations.monitoring.cycle`."""

from datetime import UTC, datetime
from typing import Annotated, Any

from zenml import step

from openmlops.adapters.decisions import Outcome
from openmlops.adapters.fences import Lease
from openmlops.core.types import LedgerEntry
from openmlops.operations.data.from_production import NewData
from openmlops.operations.monitoring import cycle
from openmlops.operations.monitoring.cycle import Plan
from openmlops.operations.retries import retry
from openmlops.pipelines.stack import open_workspace


@step(enable_cache=False)
def plan_act(by: str, mode: str, lease: dict[str, Any]) -> Annotated[Plan, "plan"]:
    """Plan what the mode allows to do about the decision."""
    return retry(cycle.plan, open_workspace(), by, mode, datetime.now(UTC), Lease(**lease))  # type: ignore[arg-type]


@step(enable_cache=False)
def add_new_data(plan: Plan) -> Annotated[NewData, "new_data"]:
    """Create a data version with the new labelled production images."""
    return retry(cycle.add_new_data, open_workspace(), plan)


@step(enable_cache=False)
def conclude(plan: Plan, new: NewData) -> Annotated[Outcome, "outcome"]:
    """Store the gate's verdict as the decision's outcome."""
    return retry(cycle.conclude, open_workspace(), plan, new)


@step(enable_cache=False)
def roll_back(plan: Plan) -> Annotated[LedgerEntry, "rollback"]:
    """Restore the previous champion."""
    return retry(cycle.roll_back, open_workspace(), plan)
