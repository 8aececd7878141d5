"""Claims about where a training computes."""

import os

import pytest
import torch
from pydantic import ValidationError

from openmlops.errors import TrainingError
from openmlops.learning.config import FitConfig
from openmlops.learning.device import Compute


def test_a_gpu_that_is_not_there_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"'cuda'.*--device cpu"):
        Compute.of(FitConfig(device="cuda"))
    assert Compute.of(FitConfig()).device == "cpu"


def test_the_cores_that_the_process_may_use_are_its_threads() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert Compute.of(FitConfig(device="cpu")).threads == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert Compute.of(FitConfig(device="cpu", threads=3)).threads == 3


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert Compute.of(FitConfig(device="cpu")).precision == "float32"
    compute = Compute.of(FitConfig(device="cpu", precision="bfloat16"))
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_two_lengths_of_one_training_are_refused() -> None:
    with pytest.raises(ValidationError, match="one of epochs, budget and steps, not epochs and steps"):
        FitConfig(epochs=1, steps=100)
