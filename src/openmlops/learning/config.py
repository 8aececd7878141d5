"""The configuration of `learning.loop.fit`: one flat value, every number with its unit. The architecture is not here."""

from typing import Literal

from pydantic import Field, model_validator

from openmlops.core.types import Value


class FitConfig(Value):
    """Set at most one of `epochs`, `budget` and `steps`. A resolved configuration has `steps` and the device filled in."""

    epochs: float | None = Field(None, gt=0, description="passes over the training images; a fraction is allowed")
    budget: float | None = Field(None, gt=0, description="seconds of training; becomes `steps` once, by timing real steps")
    steps: int | None = Field(None, gt=0, description="batches in all: the exact length of a training")

    batch_size: int = Field(250, gt=0, description="images in a step; the last incomplete batch of an epoch is left out")
    lr: float = Field(0.2, gt=0, description="peak step of the convolution filters, as a share of their norm's scale (Muon)")
    momentum: float = Field(0.6, ge=0, lt=1, description="Nesterov momentum of the filters, a share kept per step")
    other_lr: float = Field(0.05, gt=0, description="peak learning rate of all other weights (Nesterov SGD)")
    other_momentum: float = Field(0.85, ge=0, lt=1, description="Nesterov momentum of all other weights")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty of matrices other than filters, per unit of learning rate")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps in which rates rise; then they fall to 0")
    label_smoothing: float = Field(0.2, ge=0, lt=1, description="share of the target spread evenly over the classes")

    flip: bool = Field(True, description="mirror left and right, every image every other epoch")
    crop: int = Field(2, ge=0, description="pixels that an image is shifted by at most; borders are reflected")
    small_share: float = Field(0.0, ge=0, le=1, description="share of the steps, from the first on, at `small_size`")
    small_size: int = Field(24, gt=0, description="pixels of a side in that share of the steps")

    seed: int = Field(0, ge=0, description="of the order, the augmentation and the network's first weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on cuda, else float32")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the cores it may use")

    @model_validator(mode="after")
    def _one_length(self) -> "FitConfig":
        one_length(self.epochs, self.budget, self.steps)
        return self


def one_length(epochs: float | None, budget: float | None, steps: int | None) -> None:
    """Raise ValueError if more than one of the three lengths of a training is set."""
    lengths = {"epochs": epochs, "budget": budget, "steps": steps}
    given = [name for name, length in lengths.items() if length is not None]
    if len(given) > 1:
        raise ValueError(f"give one of epochs, budget and steps, not {' and '.join(given)}")
