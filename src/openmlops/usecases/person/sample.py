"""A small data set in YOLO's layout, generated offline: scenes with people among trees, cars, lamps and houses.

A network trained from scratch on it detects people after two minutes, and loses precision on darker, noisier or blurred
images. The pixels are the same on every machine; the bytes of the files depend on zlib. What is not here: how a scene is
rendered (scenes.py).
"""

from pathlib import Path

import numpy as np

from openmlops.core.images.decoding import png
from openmlops.files import place_bytes, write_text
from openmlops.usecases.drawing import Draw
from openmlops.usecases.person.scenes import scene
from openmlops.usecases.yolo_folder.layout import data_yaml, label_text

SEED = 20261125
COUNTS = {"train": 320, "val": 200, "test": 200}
"""Images in each split; `val` is large enough to calibrate drift detection."""
FIELD_PARTS = 3
"""Disjoint parts of `field`, which share no scene."""
NAMES = ("person",)


def sample(folder: Path) -> Path:
    """Write the sample into `folder` (about 21 MB, 4 s) and return the folder; an interrupted one has no `data.yaml`."""
    draw = Draw(SEED)
    for split, count in COUNTS.items():
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, boxes = scene(draw)
            place_bytes(images / f"{number:05d}.png", png(image))
            place_bytes(labels / f"{number:05d}.txt", label_text(labelled(boxes), image.shape[:2]).encode())
    write_text(folder / "data.yaml", data_yaml(NAMES))
    return folder


def field(count: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulated production traffic: object arrays (count,) of images uint8 (h, w, 3) and of labels float32 (m, 5).

    Labels are x1, y1, x2, y2 in pixels and the class. `part` (0 to FIELD_PARTS - 1) selects scenes that neither the sample nor
    another part contains; the first scenes of a part are the same for every `count`.
    """
    draw = Draw(SEED + 1 + part)
    images, labels = np.empty(count, dtype=object), np.empty(count, dtype=object)
    for row in range(count):
        images[row], boxes = scene(draw)
        labels[row] = labelled(boxes)
    return images, labels


def labelled(boxes: np.ndarray) -> np.ndarray:
    """Boxes (m, 4) -> labels float32 (m, 5) of the only class."""
    return np.column_stack([boxes, np.zeros(len(boxes))]).astype(np.float32)
