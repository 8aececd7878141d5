"""Training configuration of the CIFAR-10 network, and the recipes that provide its defaults.

No torch here: the server and the command line read this configuration too. The network is in `model`.

Measured on CIFAR-10 (a JPEG copy): 45,000 images to train on, accuracy on 5,000 others (95 % interval: 1.1 points), one seed,
one view, no test-time augmentation. One thread of an AMD EPYC (AVX-512, bf16), shared with other work, torch 2.15.0:

    recipe  epochs  precision  accuracy  cpu-seconds
    SMALL      3.0  float32       0.816           88   (lr 0.12; with lr 0.2 0.817 in 94)
    MEDIUM     9.0  bfloat16      0.854          197   (in float32 about 330, from the time of single steps)

LARGE and WIDE have not been trained to completion: LARGE has a lower lr because it has more steps, WIDE is for GPUs, as in
airbench.

bfloat16 halves the cpu-seconds on a CPU with AVX-512 BF16; the default is float32, which is the same on every machine.
Within the noise of one run: crops of 1 or 2 pixels, normalisation momentum 0.2 or 0.4, `other_lr` from 0.02 to 0.1.
"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from openmlops.core.search_space import Choices, Range, Space
from openmlops.core.types import Value
from openmlops.learning.config import FitConfig, one_length


class Recipe(Value):
    """A network size with matching learning rate and schedule."""

    channels: str
    stem_stride: Literal[1, 2]
    batch_size: int
    lr: float
    small_share: float


SMALL = Recipe(channels="16-64-128", stem_stride=1, batch_size=250, lr=0.12, small_share=0.0)
MEDIUM = Recipe(channels="32-64-128", stem_stride=1, batch_size=250, lr=0.2, small_share=0.5)
LARGE = Recipe(channels="32-128-256", stem_stride=1, batch_size=500, lr=0.08, small_share=0.5)
WIDE = Recipe(channels="64-256-256", stem_stride=1, batch_size=1000, lr=0.24, small_share=0.0)


class TrainConfig(Value):
    """Set at most one of `epochs`, `budget` and `steps` (none: `default_epochs`). The recipe fills in fields that are None."""

    SEARCH: ClassVar[Space] = {
        "epochs": Range(low=2, high=12, log=True, whole=True),
        "lr": Range(low=0.04, high=0.4, log=True),
        "weight_decay": Range(low=1e-5, high=1e-2, log=True),
        "label_smoothing": Range(low=0, high=0.3),
        "channels": Choices(options=("16-64-128", "32-64-128", "32-128-256")),
        "small_share": Range(low=0, high=0.7),
        "flip": Choices(options=(True, False)),
    }
    """what `openmlops search` varies"""

    epochs: float | None = Field(None, gt=0, description="epochs; fractions are allowed")
    budget: float | None = Field(None, gt=0, description="training time in seconds; converted to `steps` by timing real steps")
    steps: int | None = Field(None, gt=0, description="total number of training steps")
    batch_size: int | None = Field(None, gt=0, description="batch size")
    lr: float | None = Field(None, gt=0, description="peak learning rate of the convolution filters (Muon)")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay (L2) of the last layer")
    label_smoothing: float = Field(0.2, ge=0, lt=1, description="label smoothing")
    flip: bool = Field(True, description="horizontal flips")
    channels: str | None = Field(None, pattern=r"^\d+(-\d+)*$", description="channels of each layer group, as in 16-64-128")
    stem_stride: int | None = Field(None, ge=1, le=2, description="stride in pixels of the 2x2 patches of the first layer")
    small_share: float | None = Field(None, ge=0, le=1, description="share of the steps, from the start, at 24 pixels")
    seed: int = Field(0, ge=0, description="seed for weight initialisation, data order and augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if available")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on cuda, else float32")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the available cores")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        one_length(self.epochs, self.budget, self.steps)
        return self

    def resolved(self, images: int, device: str) -> "TrainConfig":
        """The configuration with the recipe's values filled in, for `images` training images on `device` (cpu or cuda)."""
        chosen = recipe_for(self.budget, device).model_dump()
        if self.epochs is self.budget is self.steps is None:
            chosen["epochs"] = default_epochs(images)
        return self.model_copy(update={name: value for name, value in chosen.items() if getattr(self, name) is None})

    def fit_config(self) -> FitConfig:
        """The part of a resolved configuration that the training loop needs."""
        return FitConfig(**{name: value for name, value in self if name in FitConfig.model_fields})


def recipe_for(budget: float | None, device: str) -> Recipe:
    """The recipe for `budget` seconds (None: the default length) on `device`."""
    if device == "cuda":
        return WIDE
    if budget is None or budget <= 120:
        return SMALL
    return MEDIUM if budget <= 400 else LARGE


def default_epochs(images: int) -> float:
    """Default number of epochs: about a minute on CIFAR-10, and enough steps to learn from a few thousand images."""
    return round(4 + 25_000 / images, 1)
