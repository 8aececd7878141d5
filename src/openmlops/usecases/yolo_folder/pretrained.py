"""Pretrained weights: located, identified by SHA-256, and loaded without running code from the file.

Nothing is downloaded. What is not here: the weights of an interrupted training, which are in its checkpoint.
"""

from pathlib import Path

import torch
from torch import nn

from openmlops.errors import DataError, TrainingError
from openmlops.files import sha256_of
from openmlops.terminal import say
from openmlops.usecases.yolo_folder.model import Network
from openmlops.usecases.yolo_folder.recipe import TrainConfig
from openmlops.usecases.yolo_folder.yolo import load_safely

AUTO = "yolov8n.pt"
"""file that `auto` looks for in the current folder"""


def find(config: TrainConfig) -> TrainConfig:
    """`config` with `pretrained` resolved to a path and its SHA-256, or `none`. Raises TrainingError for a missing file, or one
    with another SHA-256 than `pretrained_sha256`."""
    path = _path(config)
    if path is None:
        _require_same(config, None)
        return config.model_copy(update={"pretrained": "none"})
    if not path.is_file():
        remedy = "Put the file there, pass another path, or train from scratch (pretrained: none)"
        raise TrainingError(f"There are no pretrained weights at {path}", remedy)
    digest = sha256_of(path)
    _require_same(config, digest)
    return config.model_copy(update={"pretrained": str(path), "pretrained_sha256": digest})


def _path(config: TrainConfig) -> Path | None:
    if config.pretrained == "none":
        return None
    if config.pretrained != "auto":
        return Path(config.pretrained)
    if Path(AUTO).is_file() or config.pretrained_sha256:
        return Path(AUTO)
    say(f"No {AUTO} in this folder: the detector is trained from scratch.")
    return None


def _require_same(config: TrainConfig, digest: str | None) -> None:
    wanted = config.pretrained_sha256
    if wanted is not None and wanted != digest:
        found = f"has the SHA-256 {digest}" if digest else "is not used"
        remedy = "Restore the file that the training started from, or remove pretrained_sha256"
        raise TrainingError(f"The pretrained file {config.pretrained} {found}, not {wanted}", remedy)


def load(network: Network, config: TrainConfig) -> None:
    """Copy the matching weights of the file that `find` resolved into `network`; layers of another shape, such as those for
    other classes, are unchanged. Raises DataError for a file that is not a YOLO checkpoint, or one of another architecture."""
    if config.pretrained == "none":
        return
    theirs = _weights(Path(config.pretrained))
    ours = network.detector.state_dict()
    fitting = {name: tensor for name, tensor in theirs.items() if name in ours and ours[name].shape == tensor.shape}
    if len(fitting) < len(ours) / 2:
        remedy = f"Pass a checkpoint of {config.model.removesuffix('.yaml')}, or train from scratch (pretrained: none)"
        raise DataError(f"{config.pretrained} fits {len(fitting)} of the network's {len(ours)} tensors", remedy)
    network.detector.load_state_dict(fitting, strict=False)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    remedy = "Pass a checkpoint written by Ultralytics, or train from scratch (pretrained: none)"
    try:
        found = load_safely(path)
    except Exception as error:
        raise DataError(f"{path} is not a YOLO checkpoint ({type(error).__name__})", remedy) from error
    if not isinstance(found, nn.Module):
        raise DataError(f"{path} is not a YOLO checkpoint (it holds a {type(found).__name__})", remedy)
    return found.float().state_dict()
