"""Claims about Muon for filters and Nesterov SGD for the rest."""

import subprocess
import sys

import torch
from torch import nn

from openmlops.learning.config import FitConfig
from openmlops.learning.optimizer import optimizer_for, orthogonal


def test_the_update_has_the_gradients_directions_at_nearly_equal_strength() -> None:
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16)):
        left, strengths, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        update = orthogonal(left @ torch.diag(strengths) @ right)
        seen = left.T @ update @ right.T
        off_diagonal = seen - torch.diag(seen.diag())
        assert off_diagonal.abs().max() < 1e-3
        assert 0.5 < seen.diag().min() <= seen.diag().max() < 1.3


def _one_step(model: nn.Module, config: FitConfig) -> nn.Module:
    optimizer = optimizer_for(model, config)
    model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    optimizer.step()
    return model


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))


def test_frozen_weights_stay_and_all_others_move() -> None:
    before, model = _model(), _model()
    model[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    _one_step(model, FitConfig())
    moved = {
        name: not torch.equal(old, new) for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True)
    }
    assert moved == {"0.weight": False, "0.bias": True, "1.weight": True, "1.bias": True, "4.weight": True, "4.bias": True}


def test_a_filter_bank_is_kept_at_the_root_of_its_outputs() -> None:
    model = _one_step(_model(), FitConfig(lr=1e-6))
    torch.testing.assert_close(model[1].weight.norm(), torch.tensor(5.0).sqrt())  # type: ignore[union-attr]


def test_other_weights_follow_nesterov_sgd_as_torch_defines_it() -> None:
    ours, torchs = nn.Linear(3, 2), nn.Linear(3, 2)
    torchs.load_state_dict(ours.state_dict())
    config = FitConfig(other_lr=0.1, other_momentum=0.9, weight_decay=0.0)
    pairs = [(ours, optimizer_for(ours, config)), (torchs, torch.optim.SGD(torchs.parameters(), 0.1, 0.9, nesterov=True))]
    for step in range(5):
        images = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        for model, optimizer in pairs:
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, torchs.weight)
    torch.testing.assert_close(ours.bias, torchs.bias)


def test_it_does_not_bring_torchs_compiler_into_the_process() -> None:
    script = """
import sys
from torch import nn
from openmlops.learning.config import FitConfig
from openmlops.learning.optimizer import optimizer_for
model = nn.Linear(3, 2)
optimizer = optimizer_for(model, FitConfig())
model.weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
