"""Images of any folder as traffic, with their classes where its folders are named after classes of the data set.

What is not here: sending them (operations/simulation), and data sets (data.py, arrange.py).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmlops.core.images.decoding import is_image
from openmlops.core.types import Problem
from openmlops.core.validation import fewer, problem
from openmlops.errors import DataError
from openmlops.images.index import index_of, remedied
from openmlops.images.lazy import LazyImages
from openmlops.names import position
from openmlops.usecases.base import Labelled
from openmlops.usecases.image_folder.arrange import misplaced, named
from openmlops.usecases.image_folder.data import ImageFolder
from openmlops.usecases.leftovers import below, tolerated, unreadable, unused


def labelled(layout: ImageFolder, folder: Path) -> Labelled:
    """All images of a folder in a layout that `arrange` reads; without labels if none of its folders is a class.

    Raises DataError for a folder of another class beside folders of known ones, and if there is no image that can be read.
    """
    found, _ = named(folder)
    classes = [image.label for image in found]
    known = {label: position(label, layout.classes) for label in set(classes)}
    is_labelled = any(each is not None for each in known.values())
    sources = [image.source for image in found] if is_labelled else list(filter(is_image, below(folder)))
    if is_labelled and (unknown := _unknown(classes, layout.classes, folder)):
        raise DataError(f"{folder} cannot be used: {unknown[0]}", "Rename or move it")
    paths = [path.relative_to(folder).as_posix() for path in sources]
    index = index_of(folder, paths)
    broken = {path: remedied(why) for path, why in zip(paths, index.problems, strict=True) if why}
    problems = [*unused(folder, sources, misplaced, absolute=False), *unreadable(broken, "images")]
    kept = [row for row, path in enumerate(paths) if path not in broken]
    if not kept:
        reason = f" ({problems[0]})" if problems else ""
        wanted = f"Pass a folder of images, with a subfolder for each of {', '.join(layout.classes)} to send their labels"
        raise DataError(f"There is no image in {folder}{reason}", wanted)
    images = LazyImages.of_files(folder, index.of([paths[row] for row in kept]), layout.decode, None)
    labels = np.array([known[classes[row]] for row in kept], np.int64) if is_labelled else None
    return Labelled(images, labels, tuple(tolerated(problems, len(kept))))


def _unknown(labels: Sequence[str], classes: Sequence[str], folder: Path) -> list[Problem]:
    """A problem for each folder that is no class."""
    what = f"the folder is not one of the classes {', '.join(classes)}"
    return fewer(problem(what, str(folder / label)) for label in dict.fromkeys(labels) if position(label, classes) is None)
