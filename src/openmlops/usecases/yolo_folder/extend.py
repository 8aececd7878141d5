"""Adds newly labelled images to the train folder of a YOLO data set; existing files are copied byte for byte."""

import re
from pathlib import Path

import numpy as np

from openmlops.errors import DataError
from openmlops.files import copy_folder, write_bytes, write_text
from openmlops.images.lazy import Images, file_of, sizes
from openmlops.usecases.yolo_folder.folder import contents, label_path
from openmlops.usecases.yolo_folder.layout import label_text


def extend(folder: Path, images: Images, labels: np.ndarray, out: Path) -> Path:
    """Copy `folder` to `out` with n images as production_<batch>_<row> in its train folder, their files as they are or as PNG.

    `labels` is an object array (n,) of float32 (m, 5): x1, y1, x2, y2 in pixels and class. `batch` is the next unused number.
    Raises DataError for a folder without training images.
    """
    train = contents(folder).images.get("train", ())
    if not train:
        raise DataError(f"{folder} has no train images to add to", "See `openmlops data check` for what is wrong with it")
    copy_folder(folder, out)
    place, batch = train[0].rpartition("/")[0], _next_batch(train)
    for row, (boxes, size) in enumerate(zip(labels, sizes(images).tolist(), strict=True)):
        content, suffix = file_of(images, row)
        name = f"{place}/production_{batch}_{row:05d}{suffix}"
        write_text(out / label_path(name), label_text(boxes, (size[0], size[1])))
        write_bytes(out / name, content)
    return out


def _next_batch(train: tuple[str, ...]) -> int:
    numbers = [int(found[1]) for path in train if (found := re.search(r"/production_(\d+)_\d+\.\w+$", path))]
    return max(numbers, default=0) + 1
