"""ultralytics' DetectionTrainer without files, loggers and downloads, and with an exact checkpoint after each epoch instead of
ultralytics' own, which rounds weights to 16 bits and omits the random state.

An epoch is a function of the checkpoint before it: all random numbers are seeded by (seed, epoch) at its start, and each batch
is one step, so that no gradient is carried over. What is not here: locks and the handling of arguments (`training`).
"""

import itertools
import random
import time
from typing import Any

import numpy as np
import torch

from openmlops.core.quality import DetectorEpoch
from openmlops.errors import TrainingError
from openmlops.learning import health
from openmlops.learning.loop import Progress
from openmlops.usecases.yolo_folder.dataset import Batches, RowsDataset
from openmlops.usecases.yolo_folder.job import Job, arguments
from openmlops.usecases.yolo_folder.yolo import DetectionTrainer, DetectionValidator, non_max_suppression

LOSSES = ("box_loss", "cls_loss", "dfl_loss")
HOPELESS_STEPS = 500
"""steps after the warm-up by which at least one object must have been detected"""
MEASURED_STEPS = 5
"""trial steps that are timed to convert a budget to epochs"""
FOR_EVER = 1e9
"""time limit per image of non-maximum suppression in seconds; a real limit would make results depend on the machine's load"""


class Detection(DetectionTrainer):
    """One training; `run` completes it. (ultralytics attaches its integrations to classes with "Trainer" in the name.)"""

    model: Any
    ema: Any
    optimizer: Any
    stopper: Any
    metrics: Any
    loss: Any
    tloss: Any
    best_fitness: Any

    def __init__(self, job: Job) -> None:
        self.job, self.config, self.network = job, job.config, job.network
        super().__init__(overrides=arguments(job.config, job.compute, job.scratch))
        torch.set_num_threads(job.compute.threads)
        torch.use_deterministic_algorithms(job.compute.device == "cpu")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.model = self.network.detector.to(memory_format=torch.channels_last)
        self.history: list[DetectorEpoch] = []
        self.best_weights: dict[str, torch.Tensor] | None = None
        self.saved: dict[str, Any] | None = None
        self.step, self.seconds, self.ended = 0, 0.0, 0.0
        self.add_callback("on_train_epoch_start", Detection.begin_epoch)
        self.add_callback("on_train_batch_end", Detection.end_step)

    def run(self, saved: dict[str, Any] | None) -> None:
        """Train from the state `saved` (None: from the start) to the end; the network then has the best weights."""
        self.saved = saved
        if saved is None or not saved["stop"]:
            self._do_train()
        else:
            self.history, self.best_weights = _epochs(saved), saved["best"] or saved["ema"]
        assert self.best_weights is not None
        self.network.detector.criterion = None
        self.network.detector.load_state_dict(self.best_weights)

    def seconds_an_epoch(self) -> float:
        """Measured over MEASURED_STEPS steps after two warm-up steps, and one validation. Discard the network afterwards."""
        self._setup_train()
        self._model_train()
        self.epoch, started = 0, 0.0
        batches = itertools.chain.from_iterable(itertools.repeat(self.train_loader))
        for number, batch in zip(range(MEASURED_STEPS + 2), batches, strict=False):
            if number == 2:
                started = time.perf_counter()
            loss, self.loss_items = self.model(self.preprocess_batch(batch))
            self.loss = loss.sum()
            self.loss.backward()
            self.optimizer_step()
        trained = time.perf_counter()
        self.validate()
        return (trained - started) / MEASURED_STEPS * len(self.train_loader) + time.perf_counter() - trained

    def get_dataset(self) -> dict[str, Any]:
        """Class names and splits, in place of a data.yaml."""
        names = self.job.rows.names
        return {"train": "train", "val": "validation", "nc": len(names), "names": dict(enumerate(names)), "channels": 3}

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Batches:
        """The split `dataset_path` in batches."""
        train, which = mode == "train", self.job.indices[dataset_path]
        dataset = RowsDataset(self.job.rows, which, self.args.imgsz, batch_size, augment=train, hyp=self.args)
        return Batches(dataset, batch_size, shuffle=train)

    def _build_train_pipeline(self) -> None:
        """Prevent ultralytics' retry with half the batch size when memory runs out: that would be another training."""
        if getattr(self, "_oom_retries", 0):
            problem = f"The {self.job.compute.device} ran out of memory with batch size {self.config.batch_size}"
            raise TrainingError(problem, "Lower the batch size (--batch-size) or the input size (--imgsz)")
        super()._build_train_pipeline()

    def get_validator(self) -> "_Validator":
        """ultralytics' own, without its time limit."""
        return _Validator(self.test_loader, save_dir=self.save_dir, args=self.args, _callbacks=self.callbacks)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Pixels in 0..1, channels last in memory, which takes a sixth less time on a CPU."""
        prepared = super().preprocess_batch(batch)
        prepared["img"] = prepared["img"].contiguous(memory_format=torch.channels_last)
        return prepared

    def resume_training(self, ckpt: object) -> None:
        """Called once everything is built: resume from the checkpoint if there is one."""
        saved = self.saved
        if saved is None:
            return
        self.model.load_state_dict(saved["model"])
        self.ema.ema.load_state_dict(saved["ema"])
        self.ema.updates = saved["updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        self.stopper.__dict__.update(saved["stopper"])
        self.best_fitness, self.best_weights = saved["best_fitness"], saved["best"] or _copied(saved["ema"])
        self.history, self.start_epoch = _epochs(saved), saved["epoch"] + 1

    def begin_epoch(self) -> None:
        """Seed all random states by (seed, epoch)."""
        seed = int(np.random.SeedSequence([self.config.seed, self.epoch]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.step, self.seconds = self.epoch * len(self.train_loader), 0.0
        self.ended = time.perf_counter()

    def end_step(self) -> None:
        """After the optimizer's step: raise if the loss is not finite, and report progress."""
        losses = {name: float(value) for name, value in self.loss_items.items()}
        rate = self._learning_rate()
        health.require_finite(sum(losses.values()), self.step, rate)
        now = time.perf_counter()
        self.seconds, self.ended, self.step = self.seconds + now - self.ended, now, self.step + 1
        steps, total = len(self.train_loader), len(self.train_loader) * self.epochs
        done = self.step - self.epoch * steps
        mean = float(sum(self.tloss.values()))
        left = self.seconds / done * (total - self.step)
        self.job.on_step(Progress(step=self.step, total=total, loss=mean, seconds_left=left, accuracy=None))

    def save_model(self) -> bool:
        """Called at the end of each epoch, after validation: keep the best weights, write the checkpoint, report the epoch."""
        best = self.best_fitness == self.fitness
        if best:
            self.best_weights = _copied(self.ema.ema.state_dict())
        self.history.append(self._metrics())
        self._require_learning()
        self.job.checkpoint.save(self._state(best))
        self.job.on_epoch(self.history[-1])
        return True

    def _state(self, best: bool) -> dict[str, Any]:
        """Everything that the next epoch depends on. The best weights are omitted if they equal the moving average."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "best": None if best else self.best_weights,
            "best_fitness": float(self.best_fitness),
            "stopper": {name: getattr(self.stopper, name) for name in ("best_fitness", "best_epoch", "possible_stop")},
            "epoch": self.epoch,
            "epochs": self.epochs,
            "stop": bool(self.stop),
            "history": [metrics.model_dump() for metrics in self.history],
        }

    def _learning_rate(self) -> float:
        """The learning rate of all groups except MuSGD's first, which has three times as much."""
        return float(self.optimizer.param_groups[1]["lr"])

    def _metrics(self) -> DetectorEpoch:
        box, classes, dfl = (float(self.tloss[name]) for name in LOSSES)
        found = {name.removeprefix("metrics/").removesuffix("(B)"): float(value) for name, value in self.metrics.items()}
        return DetectorEpoch(
            epoch=self.epoch + 1,
            loss=box + classes + dfl,
            learning_rate=self._learning_rate(),
            seconds=self.seconds,
            box_loss=box,
            class_loss=classes,
            dfl_loss=dfl,
            validation_precision=found["precision"],
            validation_recall=found["recall"],
            validation_map50=found["mAP50"],
            validation_map50_95=found["mAP50-95"],
        )

    def _require_learning(self) -> None:
        """Raise TrainingError if long after the warm-up no object of the validation images has ever been detected. (The loss is
        no indicator: it is normalised by the assignment scores, and falls to 0 if no prediction fits.)"""
        assert self.config.warmup_epochs is not None
        patience = self.config.warmup_epochs * len(self.train_loader) + HOPELESS_STEPS
        if self.step >= patience and self.best_fitness == 0:
            rate = self.history[-1].learning_rate
            raise TrainingError(
                f"The model learned nothing by step {self.step}: the validation mAP is 0 in all {len(self.history)} epochs "
                f"(learning rate {rate:.3g})",
                "Check that the boxes belong to the images, and try another learning rate (--lr)",
            )

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Disabled: a loss that is not finite has already ended the training."""
        return False

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Disabled: no results.csv."""

    def final_eval(self) -> None:
        """Disabled: ultralytics would validate checkpoint files that do not exist."""


class _Validator(DetectionValidator):
    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Pixels in 0..1, channels last in memory."""
        prepared = super().preprocess(batch)
        prepared["img"] = prepared["img"].contiguous(memory_format=torch.channels_last)
        return prepared

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Non-maximum suppression without a time limit."""
        kept = non_max_suppression(
            preds, self.args.conf, self.args.iou, multi_label=True, max_det=self.args.max_det, max_time_img=FOR_EVER
        )
        return [{"bboxes": each[:, :4], "conf": each[:, 4], "cls": each[:, 5], "extra": each[:, 6:]} for each in kept]


def _copied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _epochs(saved: dict[str, Any]) -> list[DetectorEpoch]:
    return [DetectorEpoch(**metrics) for metrics in saved["history"]]
