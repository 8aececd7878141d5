"""Training configuration of a classifier of your own images, with defaults that depend on their size and number.

No torch here: the server and the command line read this configuration too. The network is in `learning.network`.
"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from openmlops.core.search_space import Choices, Range, Space
from openmlops.core.types import Value
from openmlops.learning.config import FitConfig, one_length

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
"""backbone whose weights are installed with this package"""
SEEN = 40_000
"""images seen in a training of the default length, repeats counted"""
FEWEST_EPOCHS, MOST_EPOCHS = 4, 60
STEPS_AN_EPOCH = 16
"""fewest steps per epoch on small data sets, down to the smallest batch size"""


SMALL = 64
"""largest side in pixels of images that are trained from nothing by default"""
SIDE = 224
"""side in pixels of the input where neither the use case nor the backbone names one"""


OF_THE_SMALL_NETWORK = ("lr", "weight_decay", "label_smoothing", "batch_size", "width", "shift")
"""settings that do nothing with a backbone"""


class TrainConfig(Value):
    """Set at most one of `epochs`, `budget` and `steps`: none is `default_epochs`, or with a backbone no fine-tuning, only its
    head. `resolved` fills in fields that are None.

    `lr`, `weight_decay`, `label_smoothing`, `batch_size`, `width` and `shift` are of the network without a backbone.
    """

    SEARCH: ClassVar[Space] = {
        "epochs": Range(low=4, high=40, log=True, whole=True),
        "lr": Range(low=0.02, high=0.4, log=True),
        "weight_decay": Range(low=1e-5, high=1e-2, log=True),
        "label_smoothing": Range(low=0, high=0.3),
        "width": Choices(options=(8, 16, 32)),
        "flip": Choices(options=(True, False)),
        "shift": Range(low=0, high=0.2),
    }
    """what `openmlops search` varies, except for `unused` settings"""

    backbone: str = Field(
        "auto",
        min_length=1,
        description="a pretrained model of timm, by its name; none: a small network, trained from nothing; auto: "
        "tf_efficientnet_lite0, or none for images of up to 64 pixels",
    )
    weights: str = Field(
        "auto",
        min_length=1,
        description="its pretrained weights: a file; download: where timm publishes them; auto: those that are installed",
    )
    weights_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="of that file, in hexadecimal; filled in automatically, and verified if given",
    )
    size: int | None = Field(None, ge=16, le=1024, description="side of the square input in pixels; none: the backbone's own")
    epochs: float | None = Field(None, gt=0, description="epochs; fractions are allowed")
    budget: float | None = Field(None, gt=0, description="training time in seconds; converted to `steps` by timing real steps")
    steps: int | None = Field(None, gt=0, description="total number of training steps")
    batch_size: int | None = Field(None, gt=1, description="batch size; none: 16 to 250, depending on the number of images")
    lr: float = Field(0.1, gt=0, le=1000, description="peak learning rate of the convolution filters (Muon)")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay (L2) of the last layer")
    label_smoothing: float = Field(0.2, ge=0, lt=1, description="label smoothing")
    width: int = Field(
        16, ge=4, le=256, description="channels of the first of three layer groups; the others have 4 and 8 times as many"
    )
    flip: bool = Field(True, description="horizontal flips; turn off if they change the class, as with arrows")
    shift: float = Field(1 / 16, ge=0, le=0.25, description="maximum random translation, as a share of the side")
    seed: int = Field(0, ge=0, description="seed for weight initialisation, data order and augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if available")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on cuda, else float32")
    threads: int | None = Field(None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the available cores")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        one_length(self.epochs, self.budget, self.steps)
        return self

    @property
    def chosen_backbone(self) -> str:
        """The name of the backbone, or none."""
        if self.backbone != "auto":
            return self.backbone
        return "none" if (self.size or SIDE) <= SMALL else DEFAULT_BACKBONE

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that a training with this configuration does not use."""
        return () if self.chosen_backbone == "none" else OF_THE_SMALL_NETWORK

    def resolved(self, images: int) -> "TrainConfig":
        """The configuration with defaults filled in, for `images` training images."""
        chosen: dict[str, int | float] = {}
        if self.epochs is self.budget is self.steps is None and self.chosen_backbone == "none":
            chosen["epochs"] = default_epochs(images)
        if self.batch_size is None and self.chosen_backbone == "none":
            chosen["batch_size"] = max(16, min(250, images // STEPS_AN_EPOCH))
        return self.model_copy(update=chosen)

    def fit_config(self) -> FitConfig:
        """The part of a resolved configuration that the training loop needs."""
        given = {name: value for name, value in self if name in FitConfig.model_fields and value is not None}
        return FitConfig(**given, crop=round(self.shift * (self.size or SIDE)))


def default_epochs(images: int) -> int:
    """Default number of epochs: SEEN images in total."""
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(SEEN / max(images, 1))))


def channels(width: int) -> tuple[int, int, int]:
    """Channels of the three groups of layers."""
    return width, 4 * width, 8 * width
