"""What a classifier looked at: Grad-CAM (Selvaraju et al., 2017) of any network with convolutions.

The heat of a place is the sum of the last feature map's channels there, weighted by how much each raises the score of a class.
What is not here: pictures (operations/release/error_pictures.py).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SMALLEST_MAP = 4
"""fewest rows and columns of the feature map that is used, if there is one: later ones say little about the place"""


def heat_maps(served: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """Images uint8 (n, h, w, 3) as model input, a class int (n,) of each -> heat float32 (n, h, w), 0..1 in each image.

    `served` maps images to logits (n, classes) and further outputs; it is not changed. None if it has no feature map, or there
    are no images.
    """
    served.eval()
    batch = torch.from_numpy(np.ascontiguousarray(images))
    layer = _last_map(served, batch[:1])
    if layer is None or not len(images):
        return None
    kept: list[torch.Tensor] = []
    heats: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    handle = layer.register_forward_hook(keep)
    try:
        for image, chosen in zip(batch, classes, strict=True):  # one at a time: the layers of many need memory
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(served(image[None])[0][0, int(chosen)], kept[-1])
            weights = gradient.mean((2, 3), keepdim=True)
            heats.append(F.relu((weights * kept.pop().detach()).sum(1, keepdim=True)).float())
    finally:
        handle.remove()
    heat = F.interpolate(torch.cat(heats), images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]
    return (heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-12)).numpy()


def _last_map(served: nn.Module, batch: torch.Tensor) -> nn.Module | None:
    """The module that ends last among those whose output is a feature map (n, c, h, w), large enough if there is one."""
    maps: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[1:]) > 1:
            maps.append((module, min(output.shape[2:])))

    handles = [module.register_forward_hook(note) for module in served.modules()]
    try:
        with torch.no_grad():
            served(batch)
    finally:
        for handle in handles:
            handle.remove()
    once = [(module, side) for module, side in maps if sum(module is other for other, _ in maps) == 1]
    large = [module for module, side in once if side >= SMALLEST_MAP]
    return large[-1] if large else once[-1][0] if once else None
