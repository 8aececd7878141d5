"""One run of a grid or a search, in its own process: train, evaluate, write the result.

The request is one line of JSON on standard input, which stays open: when it closes, the parent process is gone, and this one
exits too, keeping its checkpoint. Not here: the list of runs (`grid`).
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from openmlops.core.quality import EpochMetrics
from openmlops.core.types import SplitsRef, TrainedRef
from openmlops.errors import ServiceUnavailable, TrainingError
from openmlops.files import write_text
from openmlops.operations.release import scoring
from openmlops.operations.retries import retry
from openmlops.operations.run_leases import hold_run
from openmlops.operations.training import train
from openmlops.operations.training.grid_jobs import (
    EXIT_UNAVAILABLE,
    PARENT_TAG,
    RunResult,
    predictions_file,
    progress_file,
    read_progress,
)
from openmlops.operations.training.predictions import save_predictions
from openmlops.operations.workspace import Workspace
from openmlops.terminal import exit_code

EXIT_PARENT_GONE = 3
"""exit code after the parent process has ended"""


def main() -> None:
    """Exit with 0 if the result is written, 1 after one line on standard error, EXIT_UNAVAILABLE if a service is
    unavailable."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    unavailable = []

    def command() -> None:
        try:
            run(Workspace.open(request["use_case"]), request)
        except ServiceUnavailable:
            unavailable.append(True)
            raise

    code = exit_code(command)
    sys.exit(EXIT_UNAVAILABLE if unavailable else code)


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(EXIT_PARENT_GONE)


def run(workspace: Workspace, request: dict[str, Any]) -> None:
    """Train or resume, evaluate on the validation split and, if asked, the test split, and write the result atomically."""
    from openmlops.learning.device import cores

    splits = SplitsRef.model_validate(request["splits"])
    config = dict(request["config"])
    if request["jobs"] > 1:
        config.setdefault("threads", max(1, cores() // request["jobs"]))
    preprocessing = train.preprocess(workspace, splits)
    if train.training_key(workspace, splits, preprocessing, workspace.use_case.config(**config)) != request["key"]:
        raise TrainingError("The training code changed while the grid was running", "Run the same command again")
    result = Path(request["result"])
    seen = read_progress(result)

    def watch(metrics: EpochMetrics, share: float) -> None:
        seen.append((share, metrics.score))
        write_text(progress_file(result), json.dumps(seen))

    trained = train.train(workspace, splits, preprocessing, config, {PARENT_TAG: request["parent"]}, watch)
    retry(_evaluate, workspace, trained, request)


def _evaluate(workspace: Workspace, trained: TrainedRef, request: dict[str, Any]) -> None:
    result = Path(request["result"])
    with hold_run(workspace, trained.run_id):
        validation = scoring.measure(workspace, trained, "validation")
        test = scoring.evaluate(workspace, trained, result.with_suffix("")) if request["tests"] else None
        name, score = validation.evaluation.headline()
        selection = {f"selection_{name}": score.value}
        workspace.tracking.log_metrics(trained.run_id, selection, trained.ended_at)
        predictions = predictions_file(result)
        save_predictions(workspace, predictions, validation.predictions)
        found = RunResult(
            config=request["config"],
            run_id=trained.run_id,
            trained=trained,
            validation=validation.evaluation,
            test=test,
            predictions=workspace.contents.keep("predictions", predictions),
        )
        write_text(result, found.model_dump_json(indent=2))
        workspace.tracking.finish(trained.run_id)


if __name__ == "__main__":
    main()
