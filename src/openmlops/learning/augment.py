"""Batches from images kept in memory as uint8: one gather flips and shifts a whole batch. No data loader, no PIL."""

import torch
import torch.nn.functional as F


def gather(images: torch.Tensor, rows: torch.Tensor, flipped: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Gather `rows` of uint8 (n, h, w, 3), mirrored where `flipped` (b,), shifted by `shifts` (b, 2: down, right; pixels).

    Uncovered pixels are filled by reflection. Returns uint8 (b, 3, h, w), channels last in memory.
    """
    height, width = images.shape[1:3]
    down = _reflect(torch.arange(height, device=images.device) + shifts[:, :1], height)
    right = _reflect(torch.arange(width, device=images.device) + shifts[:, 1:], width)
    right = torch.where(flipped[:, None], width - 1 - right, right)
    return images[rows[:, None, None], down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Resize (b, 3, h, w) to `size` pixels a side with antialiasing; float32 of the same range, or the input unchanged."""
    if images.shape[-1] == images.shape[-2] == size:
        return images
    return F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)


def _reflect(position: torch.Tensor, size: int) -> torch.Tensor:
    inside = position.abs()
    return (size - 1) - ((size - 1) - inside).abs()
