"""Boxes drawn on an image for display, with Pillow's built-in font: no font file is needed."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

TRUE, PREDICTED = "#16a34a", "#dc2626"


def with_boxes(
    image: np.ndarray, predicted: np.ndarray, names: Sequence[str], truth: np.ndarray | None = None, scale: float = 1.0
) -> Image.Image:
    """uint8 (h, w, 3), predicted boxes float32 (k, 6) and true boxes (m, 5) in its pixels -> the image scaled by `scale`."""
    page = Image.fromarray(image)
    if scale != 1.0:
        page = page.resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))
    pen = ImageDraw.Draw(page)
    width = max(1, round(max(page.size) / 250))
    for box in () if truth is None else truth:
        pen.rectangle(_corners(box, scale), outline=TRUE, width=width)
    for box in predicted[::-1]:  # the most confident last, on top
        corners = _corners(box, scale)
        pen.rectangle(corners, outline=PREDICTED, width=width)
        _name(pen, corners, f"{names[int(box[5])]} {box[4]:.2f}", page.width)
    return page


def _corners(box: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) * scale for value in box[:4])
    return x1, y1, max(x1, x2), max(y1, y2)


def _name(pen: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], text: str, width: int) -> None:
    """Draw the label above the box, or inside it if there is no room; further left at the right edge of the image (`width`)."""
    _, _, right, bottom = pen.textbbox((0, 0), text)
    left, top = max(0, min(corners[0], width - right - 4)), corners[1]
    at = (left, top - bottom - 2) if top > bottom + 2 else (left, top)
    pen.rectangle((at[0], at[1], at[0] + right + 3, at[1] + bottom + 2), fill=PREDICTED)
    pen.text((at[0] + 2, at[1]), text, fill="white")
