"""The steps of the training pipeline; implemented in `operations`.

No step is cached: ZenML's cache key does not cover the functions that a step calls. Steps that use a service are retried;
training retries by itself.
"""

from typing import Annotated, Any

from zenml import step

from openmlops.adapters.fences import Lease
from openmlops.core.quality import Evaluation
from openmlops.core.types import (
    DatasetRef,
    ExportRef,
    LedgerEntry,
    ModelRef,
    Preprocessing,
    SplitsRef,
    TrainedRef,
    ValidationReport,
)
from openmlops.operations.data import datasets
from openmlops.operations.data.datasets import UploadReport
from openmlops.operations.release import exporting, promotion, registration, scoring
from openmlops.operations.retries import retry
from openmlops.operations.training import cross_validation
from openmlops.operations.training import train as training
from openmlops.pipelines.stack import open_workspace


@step(enable_cache=False)
def ingest_data() -> Annotated[DatasetRef, "dataset"]:
    """Pull the data set from the DVC remote and check every file against its manifest."""
    return retry(datasets.ingest, open_workspace())


@step(enable_cache=False)
def upload_data_to_minio(dataset: DatasetRef) -> Annotated[UploadReport, "upload"]:
    """Upload the files that the object store lacks."""
    return retry(datasets.upload, open_workspace(), dataset)


@step(enable_cache=False)
def validate_data(dataset: DatasetRef) -> Annotated[ValidationReport, "validation"]:
    """Validate the data; blocking problems stop the pipeline here."""
    return datasets.validate(open_workspace(), dataset)


@step(enable_cache=False)
def split_data(report: ValidationReport, seed: int) -> Annotated[SplitsRef, "splits"]:
    """Split into train, validation and test rows: seeded, stratified, disjoint by content."""
    return datasets.split(open_workspace(), report.dataset, seed)


@step(enable_cache=False)
def preprocess(splits: SplitsRef) -> Annotated[Preprocessing, "preprocessing"]:
    """Compute the normalization constants of the model's first layer; say how the classes differ from the champion's."""
    return training.preprocess(open_workspace(), splits)


@step(enable_cache=False)
def train(splits: SplitsRef, preprocessing: Preprocessing, config: dict[str, Any]) -> Annotated[TrainedRef, "trained"]:
    """Train the model in one MLflow run, or resume the interrupted training of the same data, configuration and code."""
    return training.train(open_workspace(), splits, preprocessing, config)


@step(enable_cache=False)
def cross_validate(trained: TrainedRef, folds: int) -> Annotated[TrainedRef, "cross_validated"]:
    """Train alike on `folds` parts of the training and validation images, and add the out-of-fold score."""
    return retry(cross_validation.cross_validate, open_workspace(), trained, folds)


@step(enable_cache=False)
def evaluate(trained: TrainedRef) -> Annotated[Evaluation, "evaluation"]:
    """Evaluate the trained model on the test split, which is never used for selection."""
    return retry(scoring.evaluate, open_workspace(), trained)


@step(enable_cache=False)
def export_model(trained: TrainedRef, evaluation: Evaluation) -> Annotated[ExportRef, "export"]:
    """Export the model and check parity with the trained one."""
    return retry(exporting.export, open_workspace(), trained, evaluation)


@step(enable_cache=False)
def register_model(export: ExportRef, trained: TrainedRef, evaluation: Evaluation) -> Annotated[ModelRef, "model"]:
    """Register the exported folder as a version of the model, on its run."""
    return retry(registration.register, open_workspace(), export, trained, evaluation)


@step(enable_cache=False)
def gate(model: ModelRef, splits: SplitsRef, lease: dict[str, Any] | None = None) -> Annotated[LedgerEntry, "decision"]:
    """Evaluate champion and challenger on the same images; append the verdict and the champion to the ledger."""
    return retry(promotion.decide, open_workspace(), model, splits, Lease(**lease) if lease else None)
