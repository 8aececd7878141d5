"""A backbone of timm with a linear head: raw pixels in, logits and embedding out. Normalisation is its first layer.

The embedding, for drift detection, has EMBEDDING columns whatever the backbone: the principal components of its features over
the training images. What is not here: where pretrained weights come from (pretrained.py), and training (transfer.py).
"""

import torch
from torch import nn

from openmlops.core.types import Preprocessing
from openmlops.errors import TrainingError
from openmlops.learning import pretrained
from openmlops.learning.compiler import deferred
from openmlops.learning.linear_head import covariance_of
from openmlops.learning.network import Normalize

with deferred():
    import timm

EMBEDDING = 32
"""columns of the embedding"""


class Backbone(nn.Module):
    """Raw images (n, 3, h, w) -> logits (n, classes) and embedding (n, EMBEDDING). Its weights are random until `load`ed."""

    center: torch.Tensor
    components: torch.Tensor

    def __init__(self, name: str, preprocessing: Preprocessing, side: int, classes: int) -> None:
        """Raises TrainingError for an unknown name, or a side that the backbone cannot take."""
        super().__init__()
        known = pretrained.named(name)
        if known.get("fixed_input_size") and side != known["input_size"][-1]:
            own = known["input_size"][-1]
            raise TrainingError(f"The backbone '{name}' takes images of {own} pixels only, not {side}", f"Use --size {own}")
        self.name = name
        self.image_shape = (side, side, 3)
        self.resize = preprocessing.resize
        self.normalize = Normalize(preprocessing)
        self.body = timm.create_model(name, pretrained=False, num_classes=0)
        width: int = getattr(self.body, "head_hidden_size", None) or self.body.num_features  # type: ignore[assignment]
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("components", torch.zeros(width, EMBEDDING))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 or float pixels in 0..255 (n, 3, h, w) -> features (n, d)."""
        found: torch.Tensor = self.body(self.normalize(images))
        return found

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 or float pixels in 0..255 -> (logits, embedding), float32."""
        features = self.features(images)
        return self.head(features), (features - self.center) @ self.components

    def load(self, found: pretrained.Pretrained) -> None:
        """Copy pretrained weights into the body. Raises TrainingError if they do not fit."""
        whole = timm.create_model(self.name, pretrained=False)
        classifier = whole.get_classifier()  # type: ignore[operator]
        names = [name for name, module in whole.named_modules() if module is classifier and name]
        pretrained.load(whole, found, names[0] if names else "")
        theirs = whole.state_dict()
        self.body.load_state_dict({name: theirs[name] for name in self.body.state_dict()})

    @torch.no_grad()
    def fit_embedding(self, features: torch.Tensor) -> None:
        """Set the embedding to the first principal components of features (n, d), each at unit variance."""
        n, center = len(features), features.mean(0)
        if n > features.shape[1]:
            variances, axes = torch.linalg.eigh(covariance_of(features, center))
            spreads, components = variances.flip(0).clamp_min(0).sqrt().float(), axes.flip(1).T.float()
        else:
            _, scales, components = torch.linalg.svd(features - center, full_matrices=False)
            spreads = scales / n**0.5
        kept = min(EMBEDDING, int((spreads > 1e-4 * spreads[0]).sum()))
        directions, spread = components[:kept], spreads[:kept, None] * (n / max(1, n - 1)) ** 0.5
        signs = torch.sign(directions.gather(1, directions.abs().argmax(1, keepdim=True)))
        self.center.copy_(center)
        self.components.zero_()
        self.components[:, :kept] = (directions * signs / spread).T
