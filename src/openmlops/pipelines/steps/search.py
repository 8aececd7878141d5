"""The steps of searches, and of grids of any use case; implemented in `operations.training`."""

from typing import Annotated, Any

from zenml import step

from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef
from openmlops.operations.retries import retry
from openmlops.operations.training import grid, grid_report, search
from openmlops.operations.training.grid import Grid, GridRef
from openmlops.operations.training.grid_report import Experiment
from openmlops.operations.training.search import Search
from openmlops.pipelines.stack import open_workspace


@step(enable_cache=False)
def run_grid(splits: SplitsRef, grid_: dict[str, Any]) -> Annotated[GridRef, "grid"]:
    """Train and evaluate every combination, each in a process and an MLflow run of its own."""
    return grid.train_all(open_workspace(), splits, Grid.model_validate(grid_))


@step(enable_cache=False)
def run_trials(splits: SplitsRef, search_: dict[str, Any]) -> Annotated[GridRef, "trials"]:
    """Train the trials, each in a process and an MLflow run of its own, and evaluate the best on the test split."""
    return search.search_all(open_workspace(), splits, Search.model_validate(search_))


@step(enable_cache=False)
def summarize(found: GridRef, model: ModelRef, decision: LedgerEntry) -> Annotated[Experiment, "experiment"]:
    """The table of runs, in MLflow and in ARTIFACTS_DIR, with the selection and the gate's verdict."""
    return retry(grid_report.summarize_grid, open_workspace(), found, model, decision)
