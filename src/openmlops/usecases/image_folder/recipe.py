"""Training configuration of a classifier of your own images, with defaults that depend on their size and number.

No torch here: the server and the command line read this configuration too. The network is in `learning.network`.
"""

from typing import Literal

from pydantic import Field, model_validator

from openmlops.core.types import Value
from openmlops.learning.config import FitConfig, one_length

SEEN = 40_000
"""images seen in a training of the default length, repeats counted"""
FEWEST_EPOCHS, MOST_EPOCHS = 4, 60
STEPS_AN_EPOCH = 16
"""fewest steps per epoch on small data sets, down to the smallest batch size"""


class TrainConfig(Value):
    """Set at most one of `epochs`, `budget` and `steps` (none: `default_epochs`). `resolved` fills in fields that are None."""

    epochs: float | None = Field(None, gt=0, description="passes over the training images; a fraction is allowed")
    budget: float | None = Field(None, gt=0, description="seconds of training; becomes `steps` once, by timing real steps")
    steps: int | None = Field(None, gt=0, description="batches in all: the exact length of a training")
    batch_size: int | None = Field(None, gt=1, description="images in a step; none: by their number, 16 to 250")
    lr: float = Field(0.1, gt=0, description="peak step of the convolution filters (Muon)")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty of the last layer")
    label_smoothing: float = Field(0.2, ge=0, lt=1, description="share of the target spread evenly over the classes")
    width: int = Field(
        16, ge=4, le=256, description="channels of the first of three groups of layers; the others have 4 and 8 times"
    )
    flip: bool = Field(True, description="mirror images left and right; not where that makes another class, as of arrows")
    shift: float = Field(1 / 16, ge=0, le=0.25, description="share of the side that an image is shifted by at most")
    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on cuda, else float32")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the cores it may use")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        one_length(self.epochs, self.budget, self.steps)
        return self

    def resolved(self, images: int) -> "TrainConfig":
        """The configuration with defaults filled in, for `images` training images."""
        chosen: dict[str, int | float] = {}
        if self.epochs is self.budget is self.steps is None:
            chosen["epochs"] = default_epochs(images)
        if self.batch_size is None:
            chosen["batch_size"] = max(16, min(250, images // STEPS_AN_EPOCH))
        return self.model_copy(update=chosen)

    def fit_config(self, side: int) -> FitConfig:
        """The part of a resolved configuration that the training loop needs, for images of `side` pixels."""
        given = {name: value for name, value in self if name in FitConfig.model_fields}
        return FitConfig(**given, crop=round(self.shift * side))


def default_epochs(images: int) -> int:
    """Default number of epochs: SEEN images in total."""
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(SEEN / max(images, 1))))


def channels(width: int) -> tuple[int, int, int]:
    """Channels of the three groups of layers."""
    return width, 4 * width, 8 * width
