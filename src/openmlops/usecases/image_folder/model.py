"""Building and training of the network for your own images. Networks and trainings are in `learning`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from openmlops.core.images.resizing import cropped, squashed
from openmlops.core.types import Preprocessing, Value
from openmlops.images.lazy import Images, LazyImages, fitted, pixels
from openmlops.learning import loop
from openmlops.learning.network import Network
from openmlops.terminal import say
from openmlops.usecases.base import Rows
from openmlops.usecases.image_folder.data import decode_for
from openmlops.usecases.image_folder.recipe import SIDE, TrainConfig, channels

WHITENING_IMAGES = 5000
"""training images from whose patches the first layer is computed, for 32x32 pixels; fewer for larger images"""
SETTLED = ("steps", "epochs", "budget", "device", "precision", "threads")
"""fields that a training fills in"""
FULL_SIDE = 48
"""side in pixels from which on the first layer has a stride of 2"""


def resolve(config: Value, preprocessing: Preprocessing) -> tuple[Value, Preprocessing]:
    """The configuration with backbone, size and the SHA-256 of the weights filled in, and the normalisation of its first layer.

    Raises TrainingError for an unknown backbone, and for weights that are not there.
    """
    assert isinstance(config, TrainConfig)
    name = config.chosen_backbone
    if name == "none":
        return config.model_copy(update={"backbone": name, "size": config.size or SIDE}), preprocessing
    from openmlops.learning import pretrained

    known = pretrained.named(name)
    digest = pretrained.find(name, config.weights, config.weights_sha256).sha256
    size = config.size or int(known["input_size"][-1])
    (red, green, blue), std = known["mean"], known["std"]
    normalised = preprocessing.model_copy(
        update={"mean": (255 * red, 255 * green, 255 * blue), "std": tuple(255 * each for each in std)}
    )
    return config.model_copy(update={"backbone": name, "size": size, "weights_sha256": digest}), normalised


def origin(config: Value) -> str:
    """Source and licence of the pretrained weights of a resolved configuration, in a sentence; empty if there are none."""
    assert isinstance(config, TrainConfig)
    if config.backbone == "none":
        return ""
    from openmlops.learning import pretrained

    found = pretrained.find(config.backbone, config.weights, config.weights_sha256)
    return f"The backbone began as {found.origin}; SHA-256 {found.sha256}."


def build(config: Value, preprocessing: Preprocessing, rows: Rows, train: np.ndarray) -> nn.Module:
    """The untrained network of `config`. The first layer of one without a backbone is computed from the images `train` (indices
    into `rows`)."""
    config, preprocessing = resolve(config, preprocessing)
    assert isinstance(config, TrainConfig)
    assert config.size is not None
    side = config.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.backbone != "none":
            from openmlops.learning.backbone import Backbone

            return Backbone(config.backbone, preprocessing, side, len(rows.names))
        network = Network(preprocessing, side, channels(config.width), 1 if side < FULL_SIDE else 2, len(rows.names))
    few = train[: WHITENING_IMAGES * 32 * 32 // side**2]
    images = pixels(_shown(rows.images, side, network.resize)[few])
    network.fit_whitening(torch.from_numpy(images).permute(0, 3, 1, 2))
    return network


def fit(model: nn.Module, rows: Rows, indices: Mapping[str, np.ndarray], config: Value, **how: Any) -> loop.FitResult:
    """`learning.loop.fit`, or `learning.transfer.fit` for a backbone, with a resolved `config`, which the result contains."""
    assert isinstance(config, TrainConfig)
    height, _, _ = model.image_shape  # type: ignore[misc]
    images = _shown(rows.images, height, model.resize)  # type: ignore[arg-type]
    data = loop.FitData.of(images, rows.labels, indices)
    resolved, _ = resolve(config, _UNUSED)
    assert isinstance(resolved, TrainConfig)
    resolved = resolved.resolved(len(indices["train"]))
    if resolved.backbone == "none":
        result = loop.fit(model, data, resolved.fit_config(), **how)
    else:
        from openmlops.learning import pretrained

        for notice in notices(resolved, int(pretrained.named(resolved.backbone)["input_size"][-1])):
            say(notice)
        result = _transfer(model, data, resolved, **how)
    settled = {
        name: value for name, value in result.config if name in ("steps", "epochs", "budget", "device", "precision", "threads")
    }
    return replace(result, config=resolved.model_copy(update=settled))


def notices(given: TrainConfig, own: int) -> list[str]:
    """What a training does otherwise than `given` may have meant. Its backbone learned from images of `own` pixels."""
    found, defaults = [], TrainConfig()
    if ignored := [name for name in given.unused if getattr(given, name) != getattr(defaults, name)]:
        found.append(f"Not used with a backbone: {', '.join(ignored)}. They are of the small network: --backbone none.")
    if given.size and given.size < own:
        found.append(f"The backbone is shown images of {given.size} pixels, as set; it learned from {own}: --size {own}.")
    return found


_UNUSED = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
"""what only the configuration is resolved with"""


def _transfer(model: nn.Module, data: loop.FitData, config: TrainConfig, **how: Any) -> loop.FitResult:
    from openmlops.learning import pretrained, transfer
    from openmlops.learning.backbone import Backbone

    assert isinstance(model, Backbone)
    weights = pretrained.find(config.backbone, config.weights, config.weights_sha256)
    return transfer.fit(model, data, config.fit_config(), weights, **how)


def _shown(images: Images, side: int, resize: str) -> Images:
    """The images as the network is shown them."""
    change = cropped if resize == "crop" else squashed
    if isinstance(images, LazyImages):
        images = images.decoded(lambda content: decode_for(content, (side, side)))
    return fitted(images, lambda image: change(image, (side, side)), (side, side), resize)
