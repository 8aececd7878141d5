"""The additional steps of person detection; implemented in `operations`."""

from typing import Annotated, Any

from zenml import step

from openmlops.core.quality import DetectionEvaluation, Evaluation
from openmlops.core.types import LedgerEntry, ModelRef, SplitsRef, TrainedRef
from openmlops.operations.data import datasets
from openmlops.operations.retries import retry
from openmlops.operations.training import grid, grid_report, train
from openmlops.operations.training.grid import Grid, GridRef
from openmlops.operations.training.grid_report import Experiment
from openmlops.pipelines.stack import open_workspace


@step(enable_cache=False)
def prepare_tiny_coco_dataset(seed: int) -> Annotated[SplitsRef, "splits"]:
    """Pull the data version, upload it to the object store, validate it, and split it."""
    workspace = open_workspace()
    dataset = retry(datasets.ingest, workspace)
    retry(datasets.upload, workspace, dataset)
    return datasets.split(workspace, datasets.validate(workspace, dataset).dataset, seed)


@step(enable_cache=False)
def train_yolo_tiny(splits: SplitsRef, config: dict[str, Any]) -> Annotated[TrainedRef, "trained"]:
    """Train the detector in one MLflow run, or resume the interrupted training of the same configuration."""
    workspace = open_workspace()
    return train.train(workspace, splits, train.preprocess(workspace, splits), config)


@step(enable_cache=False)
def summarize_yolo_experiment(
    trained: TrainedRef, evaluation: DetectionEvaluation, model: ModelRef, decision: LedgerEntry
) -> Annotated[Experiment, "experiment"]:
    """The training as a table, in MLflow and in ARTIFACTS_DIR."""
    return retry(grid_report.summarize_run, open_workspace(), trained, evaluation, model, decision)


@step(enable_cache=False)
def train_yolo_tiny_grid(splits: SplitsRef, grid_: dict[str, Any]) -> Annotated[GridRef, "grid"]:
    """Train and evaluate every combination, each in a process and an MLflow run of its own; failures do not stop the rest."""
    return grid.train_all(open_workspace(), splits, Grid.model_validate(grid_))


@step(enable_cache=False)
def select_best(found: GridRef) -> tuple[Annotated[TrainedRef, "trained"], Annotated[Evaluation, "evaluation"]]:
    """The run with the best validation score, with its evaluation on the test split."""
    best = found.best
    assert best.trained is not None
    assert best.test is not None
    return best.trained, best.test


@step(enable_cache=False)
def gate_once(model: ModelRef, splits: SplitsRef) -> Annotated[LedgerEntry, "decision"]:
    """Run the gate on the best model and stage it; a repeated grid keeps the existing verdict."""
    return retry(grid.stage, open_workspace(), model, splits)


@step(name="summarize_yolo_experiment", enable_cache=False)
def summarize_grid(found: GridRef, model: ModelRef, decision: LedgerEntry) -> Annotated[Experiment, "experiment"]:
    """The table of runs, in MLflow and in ARTIFACTS_DIR, with the selection and the gate's verdict."""
    return retry(grid_report.summarize_grid, open_workspace(), found, model, decision)
