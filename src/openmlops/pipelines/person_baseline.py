"""The baseline of person detection as a ZenML pipeline: one training of tiny YOLO, evaluated by the gate.

`openmlops train --use-case person` runs it, and so does `python -m openmlops.pipelines.person_baseline`.
"""

import sys
from typing import Any

from zenml import pipeline

from openmlops.core.gate import sample_size
from openmlops.core.quality import TrainingOutcome
from openmlops.core.types import Value
from openmlops.pipelines.outputs import outputs_of
from openmlops.pipelines.stack import open_workspace, program
from openmlops.pipelines.steps import person
from openmlops.pipelines.steps import training as shared


@pipeline(dynamic=True, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False, enable_artifact_metadata=False)
def person_baseline(config: dict[str, Any], folds: int = 0) -> None:
    """From the data to the gate, with the experiment as a table. `config` are fields of the use case's TrainConfig;
    with `folds`, one more step cross-validates."""
    splits = person.prepare_tiny_coco_dataset(seed=config["seed"])
    trained = person.train_yolo_tiny(splits, config)
    if folds:
        trained = shared.cross_validate(trained, folds)
    evaluation = shared.evaluate(trained)
    export = shared.export_model(trained, evaluation)
    model = shared.register_model(export, trained, evaluation)
    decision = shared.gate(model, splits)
    person.summarize_yolo_experiment(trained, evaluation, model, decision)


def run_baseline(config: Value, folds: int = 0) -> TrainingOutcome:
    """Run the pipeline on the active stack and return its outcome. Raises the error of a failed step."""
    output = outputs_of(person_baseline, config=config.model_dump(), folds=folds)
    trained, evaluation = output("cross_validate" if folds else "train_yolo_tiny"), output("evaluate")
    holdout = sample_size.of_evaluation(evaluation)
    return TrainingOutcome.of(trained, evaluation, output("register_model"), output("gate"), holdout)


def main() -> None:
    """Train the person detector with its default configuration and print the outcome as JSON."""
    workspace = open_workspace("person")
    print(run_baseline(workspace.use_case.config()).model_dump_json(indent=2))


if __name__ == "__main__":  # by its import name, so that ZenML can find the steps again
    from openmlops.pipelines import person_baseline as this

    sys.exit(program(this.main))
