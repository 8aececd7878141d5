"""What ZenML costs: the training pipeline's wall time minus the same functions called directly, and the first run's set-up.

Everything in a temporary folder, on the shipped sample, with a training of a few steps, so that the rest is seen. Prints
Markdown. The two ways are run in turn in one process (direct, pipeline, direct, ...), so that a noisy machine hits both.

    python benchmarks/pipeline_overhead.py [--rounds 3]
"""

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from openmlops.settings import move_into


def main(rounds: int) -> None:
    """Set a fresh home up, then measure both ways `rounds` times."""
    from openmlops.operations.data.datasets import make_sample
    from openmlops.operations.workspace import Workspace

    workspace = Workspace.open()
    make_sample(workspace)
    configs = (workspace.use_case.config(epochs=1, seed=seed) for seed in itertools.count())
    imports = seconds(_import_pipeline)
    from openmlops.pipelines.training_pipeline import run_training

    set_up = seconds(_client)
    directly(workspace, next(configs))  # so that what both ways import is there
    first = seconds(lambda: run_training(next(configs)))
    pairs = [
        (seconds(lambda: directly(workspace, next(configs))), seconds(lambda: run_training(next(configs))))
        for _ in range(rounds)
    ]
    direct, pipeline = (statistics.median(column) for column in zip(*pairs, strict=True))
    overhead = statistics.median(b - a for a, b in pairs)
    print(f"ZenML {version('zenml')}, Python {platform.python_version()}, {os.cpu_count()} cores, n = {rounds}, medians\n")
    print("| what | seconds |\n|---|---|")
    for what, value in (
        ("import of the pipeline's modules", imports),
        ("first set-up of ZenML's store", set_up),
        ("first pipeline run of a process, beyond a later one", first - pipeline),
        ("the functions called directly", direct),
        ("the same as a pipeline of ten steps", pipeline),
        ("overhead of a later run", overhead),
    ):
        print(f"| {what} | {value:.2f} |")


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def directly(workspace, config) -> None:
    """What the pipeline does, without ZenML."""
    from openmlops.operations.data import datasets
    from openmlops.operations.release import exporting, promotion, registration, scoring
    from openmlops.operations.training import train

    dataset = datasets.ingest(workspace)
    datasets.upload(workspace, dataset)
    report = datasets.validate(workspace, dataset)
    splits = datasets.split(workspace, report.dataset, config.seed)
    preprocessing = train.preprocess(workspace, splits)
    trained = train.train(workspace, splits, preprocessing, config.model_dump())
    evaluation = scoring.evaluate(workspace, trained)
    export = exporting.export(workspace, trained, evaluation)
    model = registration.register(workspace, export, trained, evaluation)
    promotion.decide(workspace, model, splits)


def _import_pipeline() -> None:
    import openmlops.pipelines.training_pipeline  # noqa: F401


def _client() -> None:
    from zenml.client import Client

    Client().active_stack_model  # noqa: B018


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        move_into(Path(folder))
        main(chosen.rounds)
