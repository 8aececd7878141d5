"""Images of any folder as traffic, with their boxes where there are label files.

What is not here: sending them (operations/simulation), and data sets (data.py, arrange.py).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmlops.core.images.boxes import objects
from openmlops.core.types import Problem
from openmlops.errors import DataError
from openmlops.images.index import ImageIndex, index_of, remedied
from openmlops.images.lazy import LazyImages
from openmlops.usecases.base import Labelled
from openmlops.usecases.leftovers import tolerated, unreadable
from openmlops.usecases.yolo_folder.config import MAX_NAMES
from openmlops.usecases.yolo_folder.data import decode, unusable, without_keypoints
from openmlops.usecases.yolo_folder.exports import Found, find
from openmlops.usecases.yolo_folder.labels import parse
from openmlops.usecases.yolo_folder.remaining import remaining, with_labels

_NUMBERS = tuple(map(str, range(MAX_NAMES)))


def labelled(folder: Path) -> Labelled:
    """All images of a folder in a layout that `arrange` reads; without labels if there is no label file.

    Where the folder names no classes, labels are the data set's class numbers. Raises DataError for what cannot be used.
    """
    export = find(folder, _NUMBERS)
    _require(folder, export.problems)
    is_labelled = any(image.label.is_file() for image in export.images)
    images, problems = with_labels(export.images, folder)
    problems += remaining(folder, export, images)
    paths = [str(image.source) for image in images]
    index = index_of(Path("/"), paths)
    broken = {path: remedied(why) for path in paths if (why := unusable(index, path))}
    kept = [image for image in images if str(image.source) not in broken]
    problems += unreadable(broken, str(folder))
    labels, wrong = _boxes(kept, index, len(export.names))
    problems = tolerated([*problems, *wrong], len(kept))
    _require(folder, [each for each in problems if each.unused != "left out"])
    if not kept:
        reason = f" that can be used: {problems[0]}" if problems else ""
        wanted = "Pass a folder of images, with labels/ beside images/ to send their labels"
        raise DataError(f"There is no image in {folder}{reason}", wanted)
    found = LazyImages.of_files(Path("/"), index.of([str(image.source) for image in kept]), decode, None)
    names = () if export.names == _NUMBERS else export.names
    return Labelled(found, objects(labels) if is_labelled else None, tuple(problems), names)


def _require(folder: Path, problems: Sequence[Problem]) -> None:
    if wrong := [each for each in problems if each.blocking]:
        raise DataError(f"{folder} cannot be used: {wrong[0]}", "Correct or remove the file")


def _boxes(images: Sequence[Found], index: ImageIndex, classes: int) -> tuple[list[np.ndarray], list[Problem]]:
    """The boxes of each image, and the problems of their lines."""
    labels: list[np.ndarray] = []
    problems: list[Problem] = []
    for image in images:
        boxes, wrong = parse(image.label, str(image.label), classes, index.size(str(image.source)))
        labels.append(boxes)
        problems += wrong
    return labels, without_keypoints(Path("/"), problems)
