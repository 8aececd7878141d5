"""Muon for convolution filters and Nesterov SGD for all other weights, in one optimizer with one state.

Muon (Keller Jordan et al., 2024) replaces a filter's momentum by the nearest matrix whose singular values are all about 1,
so that all directions learn at the same rate. torch.optim.Muon takes 2-D weights only; here a filter (o, i, h, w) is treated as
the matrix (o, i*h*w) and kept at the norm sqrt(o), because batch normalisation makes its scale irrelevant.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from openmlops.learning.config import FitConfig

ITERATIONS = 3
"""Newton-Schulz iterations; 5 cost more and were not better on CIFAR-10"""


class FilterMuon:
    """Groups with `filters=True` use Muon, the others Nesterov SGD. `lr`, `momentum`, `weight_decay` are per group.

    Not a torch.optim.Optimizer: the first of a process imports torch's compiler, which takes 125 MB and three seconds.
    """

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        self.param_groups = [{"weight_decay": 0.0, "filters": False, **group} for group in groups]
        self._weights = [weight for group in self.param_groups for weight in group["params"]]
        self._momenta: dict[torch.Tensor, torch.Tensor] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Apply the gradients; weights without one are unchanged."""
        for group in self.param_groups:
            update = self._muon if group["filters"] else self._sgd
            for weight in group["params"]:
                if weight.grad is not None:
                    update(weight, group)

    def state_dict(self) -> dict[int, torch.Tensor]:
        """The momenta by the number of their weight."""
        return {number: self._momenta[weight] for number, weight in enumerate(self._weights) if weight in self._momenta}

    def load_state_dict(self, state: dict[int, torch.Tensor]) -> None:
        """Continue with the momenta of `state`, which is copied."""
        self._momenta = {
            self._weights[number]: torch.empty_like(self._weights[number]).copy_(momentum) for number, momentum in state.items()
        }

    def _muon(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        direction = self._nesterov(weight, weight.grad, group["momentum"])
        weight.mul_(len(weight) ** 0.5 / weight.norm().clamp_min(1e-12))
        weight.add_(orthogonal(direction.flatten(1)).view_as(weight), alpha=-group["lr"])

    def _sgd(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = weight.grad.add(weight, alpha=group["weight_decay"])  # type: ignore[union-attr]
        weight.add_(self._nesterov(weight, gradient, group["momentum"]), alpha=-group["lr"])

    def _nesterov(self, weight: torch.Tensor, gradient: torch.Tensor | None, momentum: float) -> torch.Tensor:
        assert gradient is not None
        buffer = self._momenta.setdefault(weight, torch.zeros_like(weight))
        buffer.mul_(momentum).add_(gradient)
        return gradient.add(buffer, alpha=momentum)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The Newton-Schulz quintic on (r, c): same singular vectors, singular values mapped to about 1 (0.7 to 1.2)."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def optimizer_for(model: nn.Module, config: FitConfig) -> FilterMuon:
    """The optimizer of `model`: groups of filters (4-D), matrices and vectors (biases, normalisation) with their rates."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    others = {"lr": config.other_lr, "momentum": config.other_momentum}
    groups: list[dict[str, Any]] = [
        {"params": [w for w in weights if w.ndim == 4], "lr": config.lr, "momentum": config.momentum, "filters": True},
        {"params": [w for w in weights if w.ndim in (2, 3)], "weight_decay": config.weight_decay, **others},
        {"params": [w for w in weights if w.ndim < 2], **others},
    ]
    return FilterMuon([group for group in groups if group["params"]])
