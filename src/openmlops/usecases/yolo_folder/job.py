"""The inputs of one detector training, and its configuration as ultralytics' arguments. Nothing runs here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.learning.checkpoint import Checkpoint
from openmlops.learning.device import Compute
from openmlops.learning.loop import OnEpoch, OnStep
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder.model import Network
from openmlops.usecases.yolo_folder.recipe import TrainConfig


@dataclass(frozen=True)
class Job:
    """Network, data, configuration and callbacks of one training."""

    network: Network
    rows: Rows
    indices: dict[str, np.ndarray]
    config: TrainConfig
    compute: Compute
    checkpoint: Checkpoint
    on_epoch: OnEpoch
    on_step: OnStep

    @property
    def scratch(self) -> Path:
        """Where ultralytics' trainer may create its (empty) folders."""
        return self.checkpoint.path.with_suffix(".yolo").resolve()


def arguments(config: TrainConfig, compute: Compute, folder: Path) -> dict[str, Any]:
    """A resolved configuration as ultralytics' arguments. `folder` is the trainer's output folder."""
    same = ("model", "epochs", "patience", "imgsz", "optimizer", "momentum", "weight_decay", "warmup_epochs", "seed")
    augmentation = ("mosaic", "close_mosaic", "fliplr", "scale", "translate", "hsv_h", "hsv_s", "hsv_v")
    return {
        **{name: getattr(config, name) for name in same + augmentation},
        "batch": config.batch_size,
        "nbs": config.batch_size,
        "lr0": config.lr,
        "warmup_bias_lr": 0.0 if config.optimizer == "AdamW" else 0.1,
        "device": "0" if compute.device == "cuda" else "cpu",
        "amp": "bf16" if compute.precision == "bfloat16" else False,
        "data": "memory",
        "task": "detect",
        "workers": 0,
        "pretrained": False,
        "deterministic": False,
        "plots": False,
        "verbose": False,
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
    }
