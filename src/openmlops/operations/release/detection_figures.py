"""Figures of a detector: the precision-recall curve, and sample images with true and predicted boxes."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.images.drawing import PREDICTED, TRUE, with_boxes
from openmlops.core.quality import DetectionEvaluation
from openmlops.files import replacing
from openmlops.images.lazy import Images
from openmlops.operations.release import figures

SHOWN = 20
"""number of images on a sheet"""
TILE = 320
"""longer side of a tile in pixels"""
COLUMNS = 5
GAP, HEAD = 8, 28


def precision_recall(evaluation: DetectionEvaluation, path: Path) -> Path:
    """Plot precision over recall at IoU 0.5, with the operating point of the server."""
    axes, figure = figures.canvas(6, 4.5)
    axes.plot(np.linspace(0, 1, len(evaluation.curve)), evaluation.curve, color="#2563eb", linewidth=2)
    precision, recall = evaluation.precision.value, evaluation.recall.value
    axes.plot([recall], [precision], "o", color="#d97706", label=f"confidence {evaluation.confidence:g}, as served")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    found = evaluation.map50
    title = f"{evaluation.split} split, {evaluation.n} images, {evaluation.boxes} boxes\n"
    axes.set_title(f"{title}mAP@50 {found.value:.3f} (95% interval {found.low:.3f} to {found.high:.3f})", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    return figures.save(figure, path)


def sheet(images: Images, labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Write a PNG with up to SHOWN evenly spaced images, with true boxes and predicted boxes of score >= OPERATING."""
    from PIL import Image, ImageDraw, ImageFont

    rows = np.unique(np.linspace(0, len(images) - 1, min(SHOWN, len(images))).astype(int))
    tiles = [_tile(images[row], labels[row], predictions[row], names) for row in rows]
    columns = min(COLUMNS, len(tiles))
    height, width = max(tile.height for tile in tiles), max(tile.width for tile in tiles)
    size = (columns * (width + GAP) + GAP, math.ceil(len(tiles) / columns) * (height + GAP) + GAP + HEAD)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(HEAD - 10)
    pen.text((GAP, 6), f"ground truth, {len(tiles)} of {len(images)} images", fill=TRUE, font=font)
    pen.text((GAP + 300, 6), f"predictions, confidence {OPERATING:g} and above", fill=PREDICTED, font=font)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        page.paste(tile, (GAP + column * (width + GAP), HEAD + GAP + row * (height + GAP)))
    with replacing(path) as beside:
        page.save(beside, "PNG")
    return path


def _tile(image: np.ndarray, label: np.ndarray, predicted: np.ndarray, names: Sequence[str]):  # type: ignore[no-untyped-def]
    """A PIL image scaled to TILE pixels, with true and predicted boxes."""
    scale = TILE / max(image.shape[:2])
    return with_boxes(image, predicted[predicted[:, 4] >= OPERATING], names, truth=label, scale=scale)
