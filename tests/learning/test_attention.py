"""Claims about heat maps: they show where the evidence is, for any network with convolutions, and change nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from openmlops.core.types import Preprocessing
from openmlops.learning.attention import heat_maps
from openmlops.learning.export import ServedClassifier
from openmlops.learning.network import Network

SIDE = 32


class Brightness(nn.Module):
    """Class 1 for bright red places, class 0 for bright blue ones: a convolution, a mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[0.0, 0, 1], [1, 0, 0]]).view(2, 3, 1, 1))
            self.head.weight.copy_(torch.eye(2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.features(images.permute(0, 3, 1, 2).float() / 255)
        return (self.head(x.mean((2, 3))),)


def spotted() -> np.ndarray:
    """An image with a red square above left, and a blue one below right."""
    image = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    image[0, 4:10, 4:10, 0] = 255
    image[0, 20:28, 20:28, 2] = 255
    return image


@pytest.mark.parametrize(("kind", "place"), [(1, (slice(4, 10), slice(4, 10))), (0, (slice(20, 28), slice(20, 28)))])
def test_the_heat_of_a_class_is_where_its_evidence_is(kind: int, place: tuple[slice, slice]) -> None:
    heat = heat_maps(Brightness(), spotted(), np.array([kind]))
    assert heat is not None
    inside = np.zeros((SIDE, SIDE), bool)
    inside[place] = True
    assert heat[0][inside].min() == 1
    assert heat[0][~inside].max() == 0


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_of_ours_has_heat_for_each_image_and_is_not_changed(frozen: bool) -> None:
    preprocessing = Preprocessing(mean=(120, 120, 120), std=(60, 60, 60))
    network = Network(preprocessing, SIDE, (8, 16), 1, 3).requires_grad_(not frozen)
    served = ServedClassifier(network)
    before = {name: tensor.clone() for name, tensor in served.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    heat = heat_maps(served, images, np.array([0, 1, 2, 0, 1]))
    assert heat is not None
    assert (heat.shape, heat.dtype) == ((5, SIDE, SIDE), np.float32)
    assert np.isfinite(heat).all()
    assert 0 <= heat.min() <= heat.max() <= 1
    assert all(torch.equal(before[name], tensor) for name, tensor in served.state_dict().items())
    assert all(parameter.grad is None for parameter in served.parameters())
    assert not any(module._forward_hooks for module in served.modules())


def test_a_network_without_feature_maps_has_none() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(SIDE * SIDE * 3, 2)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.linear(images.flatten(1).float()),)

    assert heat_maps(Flat(), spotted(), np.array([1])) is None
