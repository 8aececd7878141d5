"""A grid of person detectors as a ZenML pipeline: train every combination, select on validation, stage the best, run the gate.

`openmlops grid --use-case person` runs it, and so does `python -m openmlops.pipelines.person_grid`.
"""

import sys
from typing import Any

from zenml import pipeline

from openmlops.operations.training.grid import EPOCHS, IMGSZ, Grid, grid_of
from openmlops.operations.training.grid_report import Experiment
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.stack import open_workspace, program
from openmlops.pipelines.steps import person
from openmlops.pipelines.steps import training as shared


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def person_grid(grid: dict[str, Any], seed: int) -> None:
    """From the data to the gate's verdict on the best run. `grid` are the fields of a `Grid` (`operations.training.grid`)."""
    splits = person.prepare_tiny_coco_dataset(seed=seed)
    found = person.train_yolo_tiny_grid(splits, grid)
    trained, evaluation = person.select_best(found)
    export = shared.export_model(trained, evaluation)
    model = shared.register_model(export, trained, evaluation)
    decision = person.gate_once(model, splits)
    person.summarize_grid(found, model, decision)


def run_grid(grid: Grid, seed: int = 0) -> Experiment:
    """Run the pipeline on the active stack and return the experiment. `seed` is that of the split. Raises the error of a
    failed step."""
    found: Experiment = outputs_of(person_grid, grid=grid.model_dump(), seed=seed)("summarize_yolo_experiment")
    return found


def main() -> None:
    """Run the default grid and print the outcome as JSON."""
    grid = grid_of(open_workspace("person"), {"epochs": EPOCHS, "imgsz": IMGSZ}, {}, jobs=1)
    print(run_grid(grid).model_dump_json(indent=2))


if __name__ == "__main__":  # by its import name, so that ZenML can find the steps again
    from openmlops.pipelines import person_grid as this

    sys.exit(program(this.main))
