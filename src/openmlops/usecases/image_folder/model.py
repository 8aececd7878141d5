"""Building and training of the network for your own images. The network and the training loop are in `learning`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from openmlops.core.types import Preprocessing, Value
from openmlops.images.lazy import pixels, sizes
from openmlops.learning import loop
from openmlops.learning.network import Network
from openmlops.usecases.base import Rows
from openmlops.usecases.image_folder.recipe import TrainConfig, channels

WHITENING_IMAGES = 5000
"""training images from whose patches the first layer is computed, for 32x32 pixels; fewer for larger images"""
FULL_SIDE = 48
"""side in pixels from which on the first layer has a stride of 2"""


def build(config: Value, preprocessing: Preprocessing, rows: Rows, train: np.ndarray) -> Network:
    """The untrained network of `config`, its first layer computed from the images `train` (indices into `rows`)."""
    assert isinstance(config, TrainConfig)
    side = _side(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Network(preprocessing, side, channels(config.width), 1 if side < FULL_SIDE else 2, len(rows.names))
    few = train[: WHITENING_IMAGES * 32 * 32 // side**2]
    network.fit_whitening(torch.from_numpy(pixels(rows.images[few])).permute(0, 3, 1, 2))
    return network


def _side(rows: Rows) -> int:
    return int(sizes(rows.images)[0, 0])


def fit(model: nn.Module, rows: Rows, indices: Mapping[str, np.ndarray], config: Value, **how: Any) -> loop.FitResult:
    """`learning.loop.fit` with a resolved `config`, which the result contains."""
    assert isinstance(config, TrainConfig)
    resolved = config.resolved(len(indices["train"]))
    data = loop.FitData.of(rows.images, rows.labels, indices)
    result = loop.fit(model, data, resolved.fit_config(_side(rows)), **how)
    settled = {name: value for name, value in result.config if name in type(config).model_fields}
    return replace(result, config=resolved.model_copy(update=settled))
