"""The detector: YOLOv8 as ultralytics builds it, with the data set's classes, and the module that is served.

What is here: seeded initial weights, and the served graph (raw pixels in; boxes, scores and embedding out), which is plain
torch. What is not: training (`training`) and non-maximum suppression (`inference`, in numpy).
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from openmlops.core.types import Preprocessing, Value
from openmlops.images.lazy import sizes
from openmlops.usecases.base import Rows
from openmlops.usecases.yolo_folder.recipe import TrainConfig
from openmlops.usecases.yolo_folder.yolo import ROOT, SPPF, YAML, Detect, DetectionModel, make_anchors, quiet

EMBEDDING = 64
"""maximum length of the embedding: more channels are averaged in groups"""


class Network(nn.Module):
    """A DetectionModel for square canvases of `imgsz` pixels, saved as its state_dict. ultralytics and `served` call it."""

    def __init__(self, model: str, imgsz: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.image_shape = (imgsz, imgsz, 3)
        with quiet():
            self.detector: Any = DetectionModel(_architecture(model), nc=len(names), verbose=False)
        self.detector.names = dict(enumerate(names))

    def forward(self, images: torch.Tensor) -> Any:
        """float32 (n, 3, imgsz, imgsz) in 0..1 -> ultralytics' output in the current mode, training or evaluation."""
        return self.detector(images)


def _architecture(model: str) -> dict[str, Any]:
    """The architecture file inside the package. By name alone ultralytics would prefer a file in the current folder."""
    family, scale = model.removesuffix(".yaml")[:-1], model.removesuffix(".yaml")[-1]
    return {**YAML.load(ROOT / "cfg" / "models" / "v8" / f"{family}.yaml"), "scale": scale, "yaml_file": model}


def resolve(config: Value, rows: Rows, train: np.ndarray) -> TrainConfig:
    """`config` with the defaults that depend on the number and the size of the training images filled in."""
    chosen = TrainConfig.model_validate(config.model_dump())
    largest = int(sizes(rows.images)[train].max(initial=0))
    return chosen.resolved(len(train), largest)


def build(config: Value, preprocessing: Preprocessing, rows: Rows, train: np.ndarray) -> Network:
    """The untrained network of `config`; the same seed gives the same weights. `preprocessing` is ignored: YOLO divides by 255.
    Pretrained weights are loaded by `fit`, so that a trained network can be rebuilt without their file.
    """
    resolved = resolve(config, rows, train)
    assert resolved.imgsz is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved.seed)
        return Network(resolved.model, resolved.imgsz, rows.names)


class Served(nn.Module):
    """Raw canvases uint8 (n, H, W, 3) RGB -> boxes (n, anchors, 4) x1 y1 x2 y2 in canvas pixels, scores (n, anchors, classes)
    in 0..1, embedding (n, d); all float32. `model` is the Network whose weights it shares."""

    centres: torch.Tensor
    strides: torch.Tensor
    bins: torch.Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model, self.image_shape = network, network.image_shape
        self.last = max(number for number, layer in enumerate(self.layers) if isinstance(layer, SPPF))
        head = self.layers[-1]
        assert isinstance(head, Detect)
        height, width, _ = network.image_shape
        maps = [torch.zeros(1, 1, height // int(stride), width // int(stride)) for stride in head.stride]
        centres, strides = make_anchors(maps, head.stride.cpu(), 0.5)
        self.register_buffer("centres", centres * strides)
        self.register_buffer("strides", strides)
        self.register_buffer("bins", torch.arange(head.reg_max, dtype=torch.float32))

    @property
    def layers(self) -> Any:
        """The layers of the detector, the head last."""
        return self.model.detector.model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As described for the class."""
        x: Any = images.permute(0, 3, 1, 2).float() / 255
        seen: list[Any] = []
        for layer in self.layers[:-1]:
            x = layer(self._inputs(layer, x, seen))
            seen.append(x)
        boxes, scores = self._outputs(self._inputs(self.layers[-1], x, seen))
        return boxes, scores, _pooled(seen[self.last])

    @staticmethod
    def _inputs(layer: Any, x: Any, seen: list[Any]) -> Any:
        """The inputs of a layer: the previous output, or those that the architecture names."""
        if isinstance(layer.f, int):
            return x if layer.f == -1 else seen[layer.f]
        return [x if source == -1 else seen[source] for source in layer.f]

    def _outputs(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        head: Any = self.layers[-1]
        sides = torch.cat([branch(x).flatten(2) for branch, x in zip(head.cv2, maps, strict=True)], 2)
        logits = torch.cat([branch(x).flatten(2) for branch, x in zip(head.cv3, maps, strict=True)], 2)
        shares = sides.transpose(1, 2).unflatten(2, (4, len(self.bins))).softmax(3)
        distances = (shares * self.bins).sum(3) * self.strides
        corners = torch.cat([self.centres - distances[..., :2], self.centres + distances[..., 2:]], 2)
        return corners, logits.transpose(1, 2).sigmoid()


def _pooled(features: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) -> (n, EMBEDDING): averaged over the image, then over groups of neighbouring channels."""
    means = features.mean((2, 3))
    return means.unflatten(1, (EMBEDDING, -1)).mean(2)


def served(model: nn.Module) -> nn.Module:
    """The served module in evaluation mode, sharing the weights of the Network `model`."""
    assert isinstance(model, Network)
    return Served(model).eval()
