"""Training configuration of a detector and its defaults.

No torch and no ultralytics here: the server and the command line read this configuration too. The network is in `model`, the
training loop in `trainer`.

Measured on the sample of the use case person (320 drawn scenes to train on, canvas 160, from scratch), one thread of an Intel
Xeon shared with other work, one seed, torch 2.15.0, ultralytics 8.4.190: the defaults reach mAP@50 0.934 on its 200 validation
and 0.911 on its 200 test images, in 139 cpu-seconds. Recipes were compared on an earlier, harder drawing of it, by the best
validation epoch:

    optimizer  batch  epochs  warm-up  mosaic  mAP@50  mAP@50-95  cpu-seconds
    AdamW          8      14      1.4     1.0   0.868      0.523          163   the defaults
    AdamW          8      10      1.0     1.0   0.835      0.452          109
    MuSGD          8      10      1.0     1.0   0.843      0.470          155
    AdamW         16      10      3.0     1.0   0.770      0.370          106
    AdamW         16      10      1.0     0.0   0.721      0.297          101

A moving average of the weights that reaches its full length sooner (after 100 steps instead of 2,000) was ahead in the first
eight epochs and behind in the end (0.808).
"""

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from openmlops.core.search_space import Choices, Range, Space
from openmlops.core.types import Value

STRIDE = 32
"""stride of the network's coarsest feature map in pixels; every canvas is a multiple of it"""
LARGEST = 320
"""default canvas in pixels, unless the images are smaller"""
FEW = 1000
"""training images below which the batch size is 8 instead of 16, so that there are enough steps"""


class TrainConfig(Value):
    """Set at most one of `epochs` and `budget`. `resolved` fills in fields that are None."""

    SEARCH: ClassVar[Space] = {
        "epochs": Range(low=10, high=60, log=True, whole=True),
        "lr": Range(low=5e-4, high=1e-2, log=True),
        "weight_decay": Range(low=1e-5, high=1e-2, log=True),
        "imgsz": Choices(options=(160, 320, 416)),
        "mosaic": Range(low=0, high=1),
        "scale": Range(low=0, high=0.9),
        "fliplr": Choices(options=(0.0, 0.5)),
    }
    """what `openmlops search` varies"""

    epochs: int | None = Field(None, gt=0, description="epochs; none: see `default_epochs`")
    budget: float | None = Field(None, gt=0, description="training time in seconds; converted to `epochs` by timing real steps")
    patience: int = Field(50, ge=0, description="epochs without a better validation score before early stopping; 0: never")

    model: Literal["yolov8n.yaml", "yolov8s.yaml", "yolov8m.yaml"] = Field(
        "yolov8n.yaml", description="model size: 3, 11 or 26 million parameters"
    )
    imgsz: int | None = Field(
        None, ge=STRIDE, le=1280, multiple_of=STRIDE, description="input size in pixels (square); none: see `canvas`"
    )
    pretrained: str = Field(
        "auto", description="pretrained weights: a path; none: train from scratch; auto: yolov8n.pt in this folder if it exists"
    )
    pretrained_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="of that file, in hexadecimal; filled in automatically, and verified if given",
    )

    batch_size: int | None = Field(None, gt=0, le=1024, description="batch size; the last batch of an epoch may be smaller")
    lr: float | None = Field(None, gt=0, le=1, description="learning rate after the warm-up; it decays linearly to a hundredth")
    optimizer: Literal["AdamW", "SGD", "MuSGD"] = Field("AdamW", description="optimizer, by its Ultralytics name")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum; beta1 for AdamW")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay of the filters per step, as a share of the learning rate")
    warmup_epochs: float | None = Field(None, ge=0, description="warm-up epochs; fractions are allowed")

    mosaic: float = Field(1.0, ge=0, le=1, description="probability of mosaic augmentation (four images combined)")
    close_mosaic: int | None = Field(None, ge=0, description="final epochs without mosaic; none: a tenth of all epochs")
    fliplr: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    scale: float = Field(0.5, ge=0, lt=1, description="random scaling by up to this share")
    translate: float = Field(0.1, ge=0, le=1, description="random translation by up to this share of the side")
    hsv_h: float = Field(0.015, ge=0, le=1, description="hue jitter, as a share of the colour circle")
    hsv_s: float = Field(0.7, ge=0, le=1, description="saturation jitter, as a share")
    hsv_v: float = Field(0.4, ge=0, le=1, description="brightness jitter, as a share")

    seed: int = Field(0, ge=0, lt=2**31, description="seed for weight initialisation, data order and augmentation")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if available")
    threads: int | None = Field(
        None, gt=0, description="CPU threads; none: OMP_NUM_THREADS, else the number of cores minus one"
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.epochs is not None and self.budget is not None:
            raise ValueError("set epochs or budget, not both")
        return self

    def resolved(self, images: int, largest: int) -> "TrainConfig":
        """The configuration with defaults filled in, for `images` training images of at most `largest` pixels a side; with a
        `budget`, fields that depend on the number of epochs stay open."""
        epochs = self.epochs if self.epochs or self.budget else default_epochs(images)
        chosen: dict[str, int | float | None] = {
            "imgsz": canvas(largest),
            "batch_size": 8 if images < FEW else 16,
            "lr": 0.002 if self.optimizer == "AdamW" else 0.01,
            "epochs": epochs,
        }
        if epochs:
            chosen |= {"close_mosaic": epochs // 10, "warmup_epochs": round(min(3.0, max(1.0, epochs / 10)), 1)}
        return self.model_copy(update={name: value for name, value in chosen.items() if getattr(self, name) is None})


def canvas(largest: int) -> int:
    """The default canvas: LARGEST pixels, or the largest side of the images rounded up to STRIDE if that is smaller."""
    return min(LARGEST, max(STRIDE, math.ceil(largest / STRIDE) * STRIDE))


def default_epochs(images: int) -> int:
    """Default number of epochs: about 3,500 images seen, and 10 to 100 epochs."""
    return max(10, min(100, round(3_500 / max(images, 1))))
