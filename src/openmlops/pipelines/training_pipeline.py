"""The training pipeline in ZenML: from a data version to a ledger entry.

`openmlops train` runs it, and so does `python -m openmlops.pipelines.training_pipeline`, as ZenML users start one. It is
a dynamic pipeline: only those re-raise a step's own error, and can be called by another pipeline.
"""

import sys
from typing import Any

from zenml import pipeline

from openmlops.core.gate import sample_size
from openmlops.core.quality import TrainingOutcome
from openmlops.core.types import Value
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.stack import open_workspace, program
from openmlops.pipelines.steps import training as steps


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def training_pipeline(config: dict[str, Any], folds: int = 0, lease: dict[str, Any] | None = None) -> None:
    """Nine steps from the data to a registered version, and the gate. `config` are the fields of the use case's TrainConfig,
    `lease` those of the lease of the cycle that retrains; with `folds`, one more step cross-validates."""
    dataset = steps.ingest_data()
    steps.upload_data_to_minio(dataset)
    report = steps.validate_data(dataset)
    splits = steps.split_data(report, seed=config["seed"])
    preprocessing = steps.preprocess(splits)
    trained = steps.train(splits, preprocessing, config)
    if folds:
        trained = steps.cross_validate(trained, folds)
    evaluation = steps.evaluate(trained)
    export = steps.export_model(trained, evaluation)
    model = steps.register_model(export, trained, evaluation)
    steps.gate(model, splits, lease)


def run_training(config: Value, folds: int = 0) -> TrainingOutcome:
    """Run the pipeline on the active stack and return its outcome. Raises the error of a failed step."""
    output = outputs_of(training_pipeline, config=config.model_dump(), folds=folds)
    trained, evaluation = output("cross_validate" if folds else "train"), output("evaluate")
    holdout = sample_size.of_evaluation(evaluation)
    return TrainingOutcome.of(trained, evaluation, output("register_model"), output("gate"), holdout)


def main() -> None:
    """Train with the use case's default configuration and print the outcome as JSON."""
    workspace = open_workspace()
    print(run_training(workspace.use_case.config()).model_dump_json(indent=2))


if __name__ == "__main__":  # by its import name, so that ZenML can find the steps again
    from openmlops.pipelines import training_pipeline as this

    sys.exit(program(this.main))
