"""The configuration of `learning.loop.fit`: one flat value, every number with its unit. The architecture is not here."""

from typing import Literal

from pydantic import Field, model_validator

from openmlops.core.types import Value


class FitConfig(Value):
    """Set at most one of `epochs`, `budget` and `steps`. A resolved configuration has `steps` and the device filled in."""

    epochs: float | None = Field(None, gt=0, description="epochs; fractions are allowed")
    budget: float | None = Field(None, gt=0, description="training time in seconds; converted to `steps` by timing real steps")
    steps: int | None = Field(None, gt=0, description="total number of training steps")

    batch_size: int = Field(250, gt=0, description="batch size; an incomplete last batch of an epoch is dropped")
    lr: float = Field(0.2, gt=0, description="peak learning rate of the convolution filters, relative to their norm (Muon)")
    momentum: float = Field(0.6, ge=0, lt=1, description="Nesterov momentum of the filters")
    other_lr: float = Field(0.05, gt=0, description="peak learning rate of all other weights (Nesterov SGD)")
    other_momentum: float = Field(0.85, ge=0, lt=1, description="Nesterov momentum of all other weights")
    weight_decay: float = Field(
        5e-4, ge=0, description="weight decay (L2) of matrices other than filters, per unit of learning rate"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="warm-up share of the steps; the rates then decay to 0")
    label_smoothing: float = Field(0.2, ge=0, lt=1, description="label smoothing")

    flip: bool = Field(True, description="horizontal flips: every image every other epoch")
    crop: int = Field(2, ge=0, description="maximum random translation in pixels; borders are reflected")
    small_share: float = Field(0.0, ge=0, le=1, description="share of the steps, from the start, at `small_size`")
    small_size: int = Field(24, gt=0, description="side in pixels during those steps")

    seed: int = Field(0, ge=0, description="seed for data order, augmentation and weight initialisation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if available")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on cuda, else float32")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the available cores")

    @model_validator(mode="after")
    def _one_length(self) -> "FitConfig":
        one_length(self.epochs, self.budget, self.steps)
        return self


def one_length(epochs: float | None, budget: float | None, steps: int | None) -> None:
    """Raise ValueError if more than one of the three lengths of a training is set."""
    lengths = {"epochs": epochs, "budget": budget, "steps": steps}
    given = [name for name, length in lengths.items() if length is not None]
    if len(given) > 1:
        raise ValueError(f"set one of epochs, budget and steps, not {' and '.join(given)}")
