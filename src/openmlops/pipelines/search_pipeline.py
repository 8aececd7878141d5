"""A search, or the grid of a classifier, as a ZenML pipeline: trials, selection on validation, the best staged and gated.

`openmlops search` runs it, and `openmlops grid` for use cases other than person, which has `person_grid`.
"""

from typing import Any

from zenml import pipeline

from openmlops.operations.training.grid import Grid
from openmlops.operations.training.grid_report import Experiment
from openmlops.operations.training.search import Search
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.steps import person
from openmlops.pipelines.steps import search as steps
from openmlops.pipelines.steps import training as shared


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def search_pipeline(grid: dict[str, Any] | None, search: dict[str, Any] | None, seed: int) -> None:
    """From the data to the gate's verdict on the best run: of the fields of a `Grid`, or of a `Search`."""
    dataset = shared.ingest_data()
    shared.upload_data_to_minio(dataset)
    report = shared.validate_data(dataset)
    splits = shared.split_data(report, seed=seed)
    found = steps.run_grid(splits, grid) if grid is not None else steps.run_trials(splits, search)
    trained, evaluation = person.select_best(found)
    export = shared.export_model(trained, evaluation)
    model = shared.register_model(export, trained, evaluation)
    decision = person.gate_once(model, splits)
    steps.summarize(found, model, decision)


def run_search(search: Search, seed: int = 0) -> Experiment:
    """Run a search on the active stack and return the experiment. `seed` is that of the split. Raises the error of a failed
    step."""
    found: Experiment = outputs_of(search_pipeline, grid=None, search=search.model_dump(), seed=seed)("summarize")
    return found


def run_grid(grid: Grid, seed: int = 0) -> Experiment:
    """Run a grid on the active stack, as `run_search` does."""
    found: Experiment = outputs_of(search_pipeline, grid=grid.model_dump(), search=None, seed=seed)("summarize")
    return found
