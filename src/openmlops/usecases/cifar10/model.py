"""Building and training of the CIFAR-10 network by its recipe. The network and the training loop are in `learning`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openmlops.core.types import Preprocessing, Value
from openmlops.learning import loop
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute
from openmlops.learning.network import Network
from openmlops.usecases.base import Rows
from openmlops.usecases.cifar10.data import SIDE
from openmlops.usecases.cifar10.recipe import TrainConfig

WHITENING_IMAGES = 5000
"""training images from whose patches the first layer is computed"""


def build(config: Value, preprocessing: Preprocessing, rows: Rows, train: np.ndarray) -> Network:
    """The untrained network of `config`, its first layer computed from the images `train` (indices into `rows`)."""
    resolved = _resolved(config, len(train))
    assert resolved.channels is not None
    assert resolved.stem_stride is not None
    channels = tuple(int(part) for part in resolved.channels.split("-"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved.seed)
        network = Network(preprocessing, SIDE, channels, resolved.stem_stride, len(rows.names))
    assert isinstance(rows.images, np.ndarray)
    network.fit_whitening(torch.from_numpy(rows.images[train[:WHITENING_IMAGES]]).permute(0, 3, 1, 2))
    return network


def fit(
    model: nn.Module,
    rows: Rows,
    indices: Mapping[str, np.ndarray],
    config: Value,
    *,
    folder: Path,
    key: str,
    on_epoch: loop.OnEpoch,
    on_step: loop.OnStep | None = None,
    on_start: Callable[[], None] | None = None,
) -> loop.FitResult:
    """`learning.loop.fit` with the recipe for `config`; the result's configuration is a fully resolved TrainConfig."""
    resolved = _resolved(config, len(indices["train"]))
    data = loop.FitData.of(rows.images, rows.labels, indices)
    result = loop.fit(
        model, data, resolved.fit_config(), folder=folder, key=key, on_epoch=on_epoch, on_step=on_step, on_start=on_start
    )
    settled = {name: value for name, value in result.config if name in TrainConfig.model_fields}
    return replace(result, config=resolved.model_copy(update=settled))


def _resolved(config: Value, images: int) -> TrainConfig:
    chosen = TrainConfig.model_validate(config.model_dump())
    return chosen.resolved(images, Compute.of(FitConfig(device=chosen.device)).device)
