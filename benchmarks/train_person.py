"""Seconds per epoch of our detector's training beside ultralytics' own, and how good it gets on the sample. Prints Markdown.

COCO128 is the folder of that name; its images with people are trained on from scratch at 320 pixels, in processes of their own,
rounds alternating, with one configuration: what `yolo_folder.trainer.arguments` says is what `YOLO(...).train` gets. An
epoch counts with its validation and its checkpoint; the first of each process is left out. ultralytics sets its own number of
threads (cores less one); "same threads" overrules it, "as it comes" does not, and draws its plots too.

    python benchmarks/train_person.py COCO128 [--rounds 3] [--epochs 6] [--threads 2]
    python benchmarks/train_person.py --sample [--epochs N]

The figures mean something on a machine with nothing else to do; cpu-seconds of the process are printed beside them.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from openmlops.core.types import Preprocessing
from openmlops.usecases.yolo_folder import data
from openmlops.usecases.yolo_folder.recipe import TrainConfig

UNUSED = Preprocessing(mean=(0, 0, 0), std=(255, 255, 255))
SPLITS = {"train": 50, "validation": 10, "test": 1}
ARMS = ("ours", "ultralytics, same threads", "ultralytics, as it comes")


def compare(coco128: Path, rounds: int, epochs: int, threads: int) -> None:
    """The table of seconds per epoch, medians over rounds of each round's median epoch."""
    from openmlops.usecases.person.tiny import tiny_person

    with tempfile.TemporaryDirectory() as home:
        folder = tiny_person(coco128, Path(home) / "people", *SPLITS.values())
        found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for _ in range(rounds):
            for arm in ARMS:
                found[arm].append(_in_a_process(arm, folder, epochs, threads))
    print(f"{platform.processor() or platform.machine()}, {threads} threads, {SPLITS['train']} images, n = {rounds}\n")
    print("| training | seconds an epoch | cpu-seconds | ours / this, seconds | ours / this, cpu |\n|---|---|---|---|---|")
    for arm in ARMS:
        seconds, cpu = (median(each[name] for each in found[arm]) for name in ("seconds", "cpu"))
        ratios = (
            median(a[name] / b[name] for a, b in zip(found["ours"], found[arm], strict=True)) for name in ("seconds", "cpu")
        )
        print(f"| {arm} | {seconds:.2f} | {cpu:.2f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


def _in_a_process(arm: str, folder: Path, epochs: int, threads: int) -> dict[str, float]:
    """Median seconds and cpu-seconds of an epoch of `arm`, in a folder and a home of its own."""
    with tempfile.TemporaryDirectory() as work:
        environment = {
            **os.environ,
            "HOME": work,
            "YOLO_OFFLINE": "true",
            "YOLO_CONFIG_DIR": work,
            "OMP_NUM_THREADS": str(threads),
        }
        command = [sys.executable, str(Path(__file__).resolve()), str(folder), "--arm", arm, "--epochs", str(epochs)]
        command += ["--threads", str(threads)]
        done = subprocess.run(command, cwd=work, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    marks = np.array(json.loads(done.stdout.splitlines()[-1]))
    return dict(zip(("seconds", "cpu"), np.median(np.diff(marks, axis=0)[1:], axis=0).tolist(), strict=True))


def run(arm: str, folder: Path, epochs: int, threads: int) -> None:
    """One training; prints the clock and the cpu clock at its start and after each epoch, as JSON."""
    marks = [(time.perf_counter(), cpu_seconds())]
    config = TrainConfig(epochs=epochs, imgsz=320, batch_size=16, pretrained="none", threads=threads, patience=0)

    def mark(_: Any) -> None:
        marks.append((time.perf_counter(), cpu_seconds()))

    if arm == "ours":
        ours(folder, config, mark)
    else:
        theirs(folder, config, mark, as_it_comes=arm.endswith("comes"))
    print(json.dumps(marks))


def ours(folder: Path, config: TrainConfig, on_epoch: Callable[[Any], None]) -> Any:
    """Train on the data set in `folder`; the network, what `fit` returned, the rows and the splits."""
    from openmlops.usecases.yolo_folder.model import build
    from openmlops.usecases.yolo_folder.training import fit

    rows = data.read(folder)
    splits = data.split(rows, 0)
    network = build(config, UNUSED, rows, splits["train"])
    with tempfile.TemporaryDirectory() as work:
        result = fit(network, rows, splits, config, folder=Path(work), key="", on_epoch=on_epoch)
    return network, result, rows, splits


def theirs(folder: Path, config: TrainConfig, on_epoch: Callable[[Any], None], as_it_comes: bool) -> None:
    """The same by `YOLO(...).train`, from the files."""
    import torch
    from ultralytics import YOLO

    from openmlops.learning.config import FitConfig
    from openmlops.learning.device import Compute
    from openmlops.usecases.yolo_folder.job import arguments
    from openmlops.usecases.yolo_folder.model import resolve

    rows = data.read(folder)
    settled = resolve(config, rows, data.split(rows, 0)["train"])
    compute = Compute.of(FitConfig(device="cpu", threads=config.threads))
    chosen = arguments(settled, compute, Path.cwd() / "run") | {"data": str(folder / "data.yaml"), "plots": as_it_comes}
    model = YOLO(chosen.pop("model"))
    model.add_callback("on_fit_epoch_end", on_epoch)
    if not as_it_comes:
        model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(compute.threads))
    model.train(**chosen)


def curve(epochs: int | None) -> None:
    """Validation mAP against seconds on the sample, at the default configuration; at last the test split."""
    from openmlops.usecases.person.sample import sample

    with tempfile.TemporaryDirectory() as home:
        folder = sample(Path(home) / "people")
        started, cpu = time.perf_counter(), cpu_seconds()
        print("| epoch | seconds | cpu-seconds | validation mAP@50 | mAP@50-95 |\n|---|---|---|---|---|")

        def line(metrics: Any) -> None:
            spent = f"{time.perf_counter() - started:.0f} | {cpu_seconds() - cpu:.0f}"
            quality = f"{metrics.validation_map50:.3f} | {metrics.validation_map50_95:.3f}"
            print(f"| {metrics.epoch} | {spent} | {quality} |", flush=True)

        network, result, rows, splits = ours(folder, TrainConfig(epochs=epochs, pretrained="none"), line)
    print(f"\nTest mAP@50 {map50(network, rows, splits['test']):.3f}; {result.config}")


def map50(network: Any, rows: Any, which: np.ndarray) -> float:
    """mAP@50 of what is served, on the images `which`, as versions are judged."""
    import torch

    from openmlops.core.detection.evaluation import evaluate_detection
    from openmlops.usecases.yolo_folder import inference
    from openmlops.usecases.yolo_folder.model import served

    shown = inference.to_model_input(rows.images[which], network.image_shape[:2])
    with torch.inference_mode():
        outputs = served(network)(torch.from_numpy(shown.pixels))
    tensors = {name: each.numpy() for name, each in zip(("boxes", "scores", "embedding"), outputs, strict=True)}
    predictions = inference.to_predictions(tensors, shown).predictions
    return evaluate_detection(rows.labels[which], predictions, rows.names, "test", "").map50.value


def cpu_seconds() -> float:
    """Of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="COCO128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sample", action="store_true", help="the curve on the sample instead")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sample:
        curve(given.epochs)
    elif given.folder is None:
        parser.error("give the folder COCO128, or --sample")
    elif given.arm:
        run(given.arm, given.folder, given.epochs, given.threads)
    else:
        compare(given.folder, given.rounds, given.epochs or 6, given.threads)
