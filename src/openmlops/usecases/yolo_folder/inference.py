"""Pre- and postprocessing of the exported detector: letterboxing, non-maximum suppression, boxes in pixels of the original
image. numpy only, no torch.

These steps happen here and nowhere else, so that training, serving and monitoring cannot differ in them. What is not here:
the network (model.py) and geometry (core/images/boxes.py).
Cost per image at 2,100 candidates: `to_predictions` 0.12 cpu-ms with 5 above FLOOR, 0.26 with 50, 1.1 with 200 (n = 300);
`to_model_input` from about 640x480 to 160x160: 1.1 (n = 128; one core of an Intel Xeon, numpy 2.4, Pillow 13.0.0).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from openmlops.core.images.boxes import from_canvas, letterbox, non_maximum_suppression, objects, place
from openmlops.errors import EvaluationError
from openmlops.usecases.base import ModelInput, Outputs

FLOOR = 0.01
"""Lowest score of a predicted box: low, because the precision-recall curve needs low-confidence boxes too."""
CANDIDATES = 1000
"""Most candidates of an image, by score, that enter non-maximum suppression."""
OVERLAP = 0.7
"""IoU above which the lower-scored of two boxes of a class is suppressed."""
MOST = 100
"""Most predicted boxes of one image, over all classes."""


def to_model_input(images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int]) -> ModelInput:
    """Images uint8 (h, w, 3) of any size, RGB -> letterboxed to `shape` (height, width), with their original sizes.

    Raises DataError for an image of another dtype or shape.
    """
    pixels = np.empty((len(images), *shape, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        pixels[row] = letterbox(image, shape)
    return ModelInput(pixels=pixels, sizes=np.array([image.shape[:2] for image in images], dtype=np.int64).reshape(-1, 2))


def to_predictions(tensors: Mapping[str, np.ndarray], model_input: ModelInput) -> Outputs:
    """ONNX outputs `boxes` (n, a, 4) in canvas pixels, `scores` (n, a, c), `embedding` (n, d) -> outputs.

    Predictions are float32 (k, 6) in pixels of the original image, by descending score; boxes that lie entirely in the padding
    are dropped. `tensors` has `class_scores` float32 (n, c): the best score of each class in each image, 0 if below FLOOR.
    Raises EvaluationError for numbers that are not finite and for inconsistent shapes.
    """
    boxes, scores, embedding = (tensors[name] for name in ("boxes", "scores", "embedding"))
    _require_sound(boxes, scores, embedding, len(model_input))
    canvas = (model_input.pixels.shape[1], model_input.pixels.shape[2])
    images = zip(boxes, scores, model_input.sizes, strict=True)
    predictions = [_image(corners, found, (int(h), int(w)), canvas) for corners, found, (h, w) in images]
    best = scores.max(axis=1, initial=0)
    return Outputs(
        predictions=objects(predictions), embedding=embedding, tensors={"class_scores": np.where(best >= FLOOR, best, 0)}
    )


def _image(boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], canvas: tuple[int, int]) -> np.ndarray:
    """One image's candidates (a, 4) and (a, c) -> its predicted boxes, float32 (k, 6)."""
    anchors, classes = np.nonzero(scores >= FLOOR)
    found = scores[anchors, classes]
    if len(found) > CANDIDATES:
        best = np.sort(np.argpartition(-found, CANDIDATES)[:CANDIDATES])
        anchors, classes, found = anchors[best], classes[best], found[best]
    corners = boxes[anchors]
    kept = non_maximum_suppression(corners, found, classes, OVERLAP, MOST)
    back = from_canvas(corners[kept], place(size, canvas), size)
    rows = np.column_stack([back, found[kept], classes[kept]]).astype(np.float32)
    return rows[(rows[:, 2:4] > rows[:, :2]).all(axis=1)]


def _require_sound(boxes: np.ndarray, scores: np.ndarray, embedding: np.ndarray, n: int) -> None:
    remedy = "Do not serve this version: export it again, or retrain it"
    ranks = (boxes.ndim, scores.ndim, embedding.ndim)
    if ranks != (3, 3, 2) or boxes.shape != (n, scores.shape[1], 4) or {len(scores), len(embedding)} != {n}:
        shapes = f"boxes {boxes.shape}, scores {scores.shape} and embedding {embedding.shape}"
        raise EvaluationError(f"The model's outputs are {shapes} for {n} images", remedy)
    for name, numbers in (("boxes", boxes), ("scores", scores), ("embedding", embedding)):
        if bad := int(numbers.size - np.isfinite(numbers).sum()):
            raise EvaluationError(f"{bad} of {numbers.size} numbers of the model's {name} are NaN or infinite", remedy)
