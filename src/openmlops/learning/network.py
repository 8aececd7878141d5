"""A compact residual network for small images: raw pixels in, logits and embedding out. Normalisation is its first layer.

The architecture follows the CIFAR-10 speedruns (airbench, Keller Jordan 2024): 2x2 patches whitened by fixed filters, then
groups of two 3x3 convolutions with batch normalisation, the second one residual. What is not here: its width and how it is
trained (the use case, and `loop`).
"""

import torch
import torch.nn.functional as F
from torch import nn

from openmlops.core.types import Preprocessing

PATCH = 2
"""side of the whitened patches in pixels"""
WHITENING_PIXELS = 100_000
"""pixels of the images whose patches are held at a time for the first layer"""
LOGIT_SCALE = 1 / 3
"""factor on the logits; keeps the first steps stable"""


class Normalize(nn.Module):
    """(pixels - mean) / std per channel; takes uint8, or floats in 0..255."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> float32 of the same shape."""
        return (images.float() - self.mean) / self.std


class Group(nn.Module):
    """Two 3x3 convolutions; the first is followed by pooling that halves the sides, the second has a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = _norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) -> (n, outputs, h // 2, w // 2)."""
        x = F.relu(self.first_norm(F.max_pool2d(self.first(x), 2)))
        return x + F.relu(self.second_norm(self.second(x)))


class Network(nn.Module):
    """Raw images (n, 3, h, w) -> logits (n, classes) and embedding (n, channels of the last group)."""

    def __init__(
        self, preprocessing: Preprocessing, side: int, channels: tuple[int, ...], stem_stride: int, classes: int
    ) -> None:
        super().__init__()
        self.image_shape, self.resize = (side, side, 3), preprocessing.resize
        patch = 3 * PATCH * PATCH
        self.normalize = Normalize(preprocessing)
        self.whiten = nn.Conv2d(3, 2 * patch, PATCH, stride=stem_stride)
        self.whiten.weight.requires_grad_(False)
        sides = zip((2 * patch, *channels), channels, strict=False)
        self.groups = nn.Sequential(*[Group(inputs, outputs) for inputs, outputs in sides])
        self.head = nn.Linear(channels[-1], classes, bias=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 or float pixels in 0..255 -> (logits, embedding), float32."""
        x = F.relu(self.whiten(self.normalize(images)))
        embedding = self.groups(x).amax((2, 3))
        return self.head(embedding) * LOGIT_SCALE, embedding

    @torch.no_grad()
    def fit_whitening(self, images: torch.Tensor) -> None:
        """Set the first layer to the principal components of the patches of `images`, at unit variance, and their negatives."""
        moments, n = torch.zeros(3 * PATCH**2, 3 * PATCH**2), 0
        for part in images.split(max(1, WHITENING_PIXELS // (images.shape[2] * images.shape[3]))):
            patches = F.unfold(self.normalize(part), PATCH).transpose(1, 2).flatten(0, 1)
            moments, n = moments + patches.T @ patches, n + len(patches)
        variances, components = torch.linalg.eigh(moments / n)
        filters = (components / (variances + 5e-4).sqrt()).T.view(-1, 3, PATCH, PATCH)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        assert self.whiten.bias is not None
        self.whiten.bias.zero_()


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with a learned bias but no scale, because the filters after it have a fixed norm."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
