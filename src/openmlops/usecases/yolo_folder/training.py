"""Training of the detector on images in memory, in this process, resumable after any kill.

What is here: the lock, the length, initial weights, and errors that users can cause. What is not: the training loop
(`trainer`), and evaluation of the result.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openmlops.core.types import Value
from openmlops.errors import TrainingError
from openmlops.learning.checkpoint import exclusive
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute, cores
from openmlops.learning.loop import FitResult, OnEpoch, OnStep
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder.job import Job
from openmlops.usecases.yolo_folder.model import Network, resolve
from openmlops.usecases.yolo_folder.pretrained import find, load
from openmlops.usecases.yolo_folder.trainer import Detection
from openmlops.usecases.yolo_folder.yolo import VERSION, contained


def fit(
    model: nn.Module,
    rows: Rows,
    indices: dict[str, np.ndarray],
    config: Value,
    *,
    folder: Path,
    key: str,
    on_epoch: OnEpoch,
    on_step: OnStep | None = None,
    on_start: Callable[[], None] | None = None,
) -> FitResult:
    """Train the Network `model` in place on `indices["train"]`; it ends on the CPU in evaluation mode, with the averaged
    weights of the epoch that was best on `indices["validation"]`. No other rows are used.

    `folder` holds the checkpoint of an interrupted training. It is resumed only with the same `key` (of data, configuration
    and code), device, torch, ultralytics and initial weights, and on the CPU ends bit-equal to an uninterrupted one.
    `on_start` is called once this process holds the lock, `on_epoch` once the epoch's checkpoint is durable, and not again for
    epochs before a resume. Raises TrainingError if the loss is not finite, the model does not learn, there are no boxes to
    learn from, or another process runs the same training; DataError for unusable pretrained weights.
    """
    assert isinstance(model, Network)
    _require_boxes(rows, indices)
    chosen = find(resolve(config, rows, indices["train"]))
    compute = Compute.of(FitConfig(device=chosen.device, threads=chosen.threads or _threads()))
    identity = f"{key} {compute.model_dump_json()} torch {torch.__version__} ultralytics {VERSION} {chosen.pretrained_sha256}"
    with exclusive(folder, identity) as checkpoint, compute.active(), contained():
        if on_start is not None:
            on_start()
        job = Job(model, rows, indices, chosen, compute, checkpoint, on_epoch, on_step or (lambda progress: None))
        try:
            training = _run(job)
        finally:
            shutil.rmtree(job.scratch, ignore_errors=True)
        checkpoint.remove()
    model.to("cpu").to(memory_format=torch.contiguous_format).eval()
    history = tuple(training.history)
    seconds = sum(metrics.seconds for metrics in history)
    return FitResult(history, seconds, training.saved is not None, training.config)


def _run(job: Job) -> Detection:
    """Train to the end, from the checkpoint if there is one, which also keeps the number of epochs that a budget gave."""
    saved, config = job.checkpoint.load(), job.config
    if saved is None:
        load(job.network, config)
    epochs = saved["epochs"] if saved else config.epochs or _epochs_within(job)
    length = config.model_copy(update={"epochs": epochs, "budget": None})
    settled = resolve(length, job.rows, job.indices["train"])
    compute = {"device": job.compute.device, "threads": job.compute.threads}
    training = Detection(replace(job, config=settled.model_copy(update=compute)))
    training.run(saved)
    return training


def _epochs_within(job: Job) -> int:
    """Epochs that fit into the budget, from timing real steps of a copy of the network."""
    one = resolve(job.config.model_copy(update={"epochs": 1, "budget": None}), job.rows, job.indices["train"])
    seconds = Detection(replace(job, network=copy.deepcopy(job.network), config=one)).seconds_an_epoch()
    assert job.config.budget is not None
    return max(1, round(job.config.budget / seconds))


def _threads() -> int:
    """One less than the number of cores, as in ultralytics, or OMP_NUM_THREADS if that is lower.

    On two cores of a shared machine (hyperthreads, torch 2.15.0) two epochs of 96 images took 5.7 s on two threads without
    other load and 16 to 44 s with it, because threads spin while they wait for each other; on one thread always 7.0 s.
    """
    return max(1, min(cores() - 1, torch.get_num_threads()))


def _require_boxes(rows: Rows, indices: dict[str, np.ndarray]) -> None:
    for split in ("train", "validation"):
        if not sum(len(rows.labels[row]) for row in indices[split]):
            raise TrainingError(
                f"The {len(indices[split])} images of the {split} split have no boxes",
                "Label some of them, or use another seed for the split",
            )
