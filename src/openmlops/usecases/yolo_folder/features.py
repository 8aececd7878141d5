"""Feature columns for drift detection of a detector: image statistics, predicted boxes, and the network's embedding.

numpy only, no torch. Drift detection compares means, so columns are scaled such that no few large values dominate the mean:
counts and noise as logarithms, areas as side lengths. Every column of boxes is 0 if nothing was detected and never negative.
So 0 is the end of its range, and a window in which a blind camera detects nothing is drift; a constant inside the range would
make the window not measurable.
What is not here: the drift test (core/monitoring/drift.py) and how boxes are predicted (inference.py).
Cost: 0.8 cpu-ms per image with 44 boxes on a canvas of 160x160 (COCO128, n = 128, one core of an Intel Xeon, numpy 2.4).
"""

import numpy as np
from PIL import Image

from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.images.boxes import objects, place
from openmlops.core.images.statistics import image_statistics, laplacian, luma_of
from openmlops.usecases.base import ModelInput, Outputs

SIDE = 160
"""Longest side in pixels at which image statistics are computed, so that versions with larger inputs are comparable: between
inputs of 160 and 320, COCO128's sharpness and noise differ by half a standard deviation, all others by 0.1 at most."""
EDGE = 0.01
"""A box nearer to the image's edge than this share of the image's side counts as truncated."""
MOST_SHAPE = 3.0
"""Clip value of the logarithm of height over width: a box 20 times as high as wide."""
FLAT = 2.0
"""Mean absolute Laplacian of luma, in pixel units, below which a tile counts as flat."""
TILE = 8
"""Side of a tile in pixels."""

_LEAST_SIDE = TILE + 2


def features(model_input: ModelInput, outputs: Outputs) -> dict[str, np.ndarray]:
    """Columns float32 (n,) by name, all finite.

    `image.NAME`: `core.images.image_statistics` of the image without border; `image.noise` and `image.clipped` (in per cent)
    as log(1 + value); `image.flat`: share of tiles that show nothing, as where something covers the lens.
    Of the boxes from OPERATING on: `boxes.count` as log(1 + count), `boxes.score.mean`, and `boxes.side.max` of the largest.
    Of all boxes: `boxes.score.max`, `boxes.expected` as log(1 + sum of scores), and means weighted by the square of the score,
    because doubtful boxes are many. In shares of the image these are `boxes.side.mean` (square root of the area),
    `boxes.left`, `boxes.right`, `boxes.above`, `boxes.below` (how far centres are off the image's); `boxes.tall` and
    `boxes.wide` say how far the logarithm of height over width, in pixels, is above and below 0, and `boxes.edge` what share
    of boxes the image's edge cuts. `class.N.score`: the best score of a class, where there are several. `embedding.NN`.
    """
    statistics = {f"image.{name}": column for name, column in _image_columns(model_input).items()}
    found = np.array(
        [_box_row(boxes, size) for boxes, size in zip(outputs.predictions, model_input.sizes, strict=True)], np.float32
    )
    boxes = dict(zip(_BOX_COLUMNS, np.ascontiguousarray(found.reshape(-1, len(_BOX_COLUMNS)).T), strict=True))
    return {**statistics, **boxes, **_class_columns(outputs), **_columns("embedding", "", outputs.embedding)}


def _image_columns(model_input: ModelInput) -> dict[str, np.ndarray]:
    canvas = model_input.pixels.shape[1:3]
    contents = [
        _content(pixels, (int(h), int(w)), canvas) for pixels, (h, w) in zip(model_input.pixels, model_input.sizes, strict=True)
    ]
    columns = image_statistics(objects(contents))
    columns["flat"] = np.array([_flat(content) for content in contents], dtype=np.float32)
    return columns | {"noise": np.log1p(columns["noise"]), "clipped": np.log1p(100 * columns["clipped"])}


def _flat(content: np.ndarray) -> float:
    edges = np.abs(laplacian(luma_of(content[None]))[0])
    rows, columns = edges.shape[0] // TILE, edges.shape[1] // TILE
    tiles = edges[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
    return float((tiles.mean(axis=(1, 3)) < FLAT).mean())


def _content(pixels: np.ndarray, size: tuple[int, int], canvas: tuple[int, int]) -> np.ndarray:
    """The part of a canvas that the image covers, downscaled to at most SIDE pixels."""
    placed = place(size, canvas)
    content = pixels[placed.top : placed.top + placed.height, placed.left : placed.left + placed.width]
    shrink = min(1.0, SIDE / max(placed.height, placed.width))
    height, width = (max(_LEAST_SIDE, round(side * shrink)) for side in (placed.height, placed.width))
    if content.shape[:2] == (height, width):
        return content
    return np.asarray(Image.fromarray(content).resize((width, height), Image.Resampling.BILINEAR))


_BOX_COLUMNS = (
    "boxes.count",
    "boxes.score.max",
    "boxes.score.mean",
    "boxes.expected",
    "boxes.side.max",
    "boxes.side.mean",
    "boxes.tall",
    "boxes.wide",
    "boxes.left",
    "boxes.right",
    "boxes.above",
    "boxes.below",
    "boxes.edge",
)


def _box_row(boxes: np.ndarray, size: np.ndarray) -> list[float]:
    """The box columns of one image of `size` (height, width) with its predicted boxes (k, 6)."""
    if not len(boxes):
        return [0.0] * len(_BOX_COLUMNS)
    score, operating = boxes[:, 4], boxes[:, 4] >= OPERATING
    corners = boxes[:, :4] / np.array([size[1], size[0]] * 2, dtype=np.float32)
    side = np.sqrt((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))
    weights = score**2 / (score**2).sum()
    geometry = np.column_stack([side, _shapes(boxes), _offsets(corners), _cut(corners)])
    return [
        float(np.log1p(operating.sum())),
        float(score.max()),
        float(score[operating].mean()) if operating.any() else 0.0,
        float(np.log1p(score.sum())),
        float(side[operating].max(initial=0)),
        *(weights @ geometry).tolist(),
    ]


def _shapes(boxes: np.ndarray) -> np.ndarray:
    """(k, 2): the logarithm of height over width of each box, split into its positive and its negative part."""
    tall = np.log((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]))
    return np.column_stack([tall, -tall]).clip(0, MOST_SHAPE)


def _offsets(corners: np.ndarray) -> np.ndarray:
    """(k, 4): offset of each centre to the left, right, above and below the image's centre, as shares of the image."""
    x, y = (corners[:, :2] + corners[:, 2:]).T / 2 - 0.5
    return np.column_stack([-x, x, -y, y]).clip(0)


def _cut(corners: np.ndarray) -> np.ndarray:
    return (corners[:, :2].min(axis=1) <= EDGE) | (corners[:, 2:].max(axis=1) >= 1 - EDGE)


def _class_columns(outputs: Outputs) -> dict[str, np.ndarray]:
    """One column per class; none for a single class, where `boxes.score.max` is the same."""
    scores = outputs.tensors["class_scores"]
    return _columns("class", ".score", scores) if scores.shape[1] > 1 else {}


def _columns(name: str, end: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    digits = len(str(rows.shape[1] - 1))
    return {f"{name}.{i:0{digits}d}{end}": np.ascontiguousarray(rows[:, i], dtype=np.float32) for i in range(rows.shape[1])}
