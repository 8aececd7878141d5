"""The structure of a folder in YOLO's layout, before any image is opened: `data.yaml`, and which files belong together.

    data.yaml            path (absent or `.`), train, val, test: folders of images; names: a list, or number: name
    images/train/a.jpg   labels/train/a.txt; an image without a label file has no boxes

What is not here: the content of images and labels (data.py, labels.py).
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from openmlops.core.images.decoding import is_image
from openmlops.core.types import Problem
from openmlops.core.validation import problem
from openmlops.files import real
from openmlops.names import is_showable
from openmlops.usecases.arranging import entries
from openmlops.usecases.yolo_folder import config
from openmlops.usecases.yolo_folder.config import CONFIG
from openmlops.usecases.yolo_folder.layout import SPLITS

_NOT_LABELS = ("classes.txt", "README.txt")


@dataclass(frozen=True)
class Contents:
    """Class names and, for each split in `data.yaml`, its image files by path relative to the folder; and the label files."""

    names: tuple[str, ...] = ()
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    """whether the images of every split in `data.yaml` are known"""

    @property
    def usable(self) -> bool:
        """Whether there are images to open."""
        return bool(self.names) and any(self.images.values())


def contents(folder: Path) -> Contents:
    """The folder's structure and all its problems. Never raises for bad data."""
    content, problems = _config(folder)
    if content is None:
        return Contents(problems=tuple(problems))
    names, wrong = config.class_names(content)
    problems += [problem(wrong, CONFIG)] if wrong else []
    places, misplaced = _places(content, folder)
    problems += misplaced
    images: dict[str, tuple[str, ...]] = {}
    for split, place in places.items():
        images[split], found = _images(folder, place)
        problems += found
    labels = tuple(path for place in places.values() for path in label_files(folder, place))
    return Contents(names, images, labels, tuple(problems), complete=not misplaced)


def label_path(image: str) -> str:
    """images/train/a.jpg -> labels/train/a.txt: the last folder named `images` is replaced by `labels`."""
    parts = PurePosixPath(image).with_suffix(".txt").parts
    last = max(index for index, part in enumerate(parts) if part == "images")
    return "/".join((*parts[:last], "labels", *parts[last + 1 :]))


def _config(folder: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        content, wrong = config.read(folder / CONFIG)
    except FileNotFoundError:
        return None, [problem("the file is missing; create it with train, val, test and names", CONFIG)]
    return (None, [problem(wrong, CONFIG)]) if wrong else (content, [])


def _places(content: dict[str, Any], folder: Path) -> tuple[dict[str, str], list[Problem]]:
    """Split -> its image folder; unusable splits are left out, with the reason."""
    if config.value(content, "path") not in (".", "./", None):
        return {}, [problem("path is not `.`; remove it, so that the folder can be moved and versioned", CONFIG)]
    places: dict[str, str] = {}
    problems = []
    for split in SPLITS:
        named = config.value(content, split)
        if named is None:
            if split != "val":
                problems.append(problem(f"{split} is missing; name its folder, as in images/{split}", CONFIG))
            continue
        reason = _why_not(named, folder)
        place = "" if reason else PurePosixPath(named).as_posix()
        if not reason and (same := [other for other in places if _overlap(places[other], place)]):
            reason = f"is in the same folder as {same[0]}"
        if reason:
            problems.append(problem(f"{split} {reason}", CONFIG))
        else:
            places[split] = place
    return places, problems


def _why_not(place: object, folder: Path) -> str:
    """Why this is not an image folder inside `folder`; empty if it is."""
    if not isinstance(place, str):
        return f"is a {type(place).__name__}; name one folder, as in images/train"
    parts = PurePosixPath(place).parts
    if place.startswith("/") or "\\" in place or re.match(r"[A-Za-z]+:", place) or ".." in parts or not is_showable(place):
        return "is outside the folder of the data set; name a folder inside it"
    if "images" not in parts:
        return "is not in a folder called images, so its labels cannot be found; use images/train and labels/train"
    if not _is_folder(folder / place):
        return f"names {place[:100]}, which is not a readable folder"
    for inside in (place, label_path(f"{place}/x.txt").removesuffix("/x.txt")):
        if not real(folder / inside).is_relative_to(real(folder)):
            return f"leads outside the folder of the data set through a link ({inside}); copy the files into it"
    return ""


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir() and os.access(path, os.R_OK | os.X_OK)
    except OSError:
        return False


def _overlap(first: str, second: str) -> bool:
    one, other = PurePosixPath(first), PurePosixPath(second)
    return one.is_relative_to(other) or other.is_relative_to(one)


def _images(folder: Path, place: str) -> tuple[tuple[str, ...], list[Problem]]:
    """The image files of a folder, sorted."""
    images = [path for path in entries(folder / place) if is_image(path)]
    problems = [problem("the folder has no images", place)] if not images else []
    stems: dict[str, str] = {}
    for path in images:
        if path.stem in stems:
            what = f"the image has the label file of {stems[path.stem]}; rename one of them"
            problems.append(problem(what, f"{place}/{path.name}"))
        stems.setdefault(path.stem, path.name)
    return tuple(f"{place}/{path.name}" for path in images), problems


def label_files(folder: Path, place: str) -> tuple[str, ...]:
    """The label files for the images of a folder, sorted, whether the images are there or not."""
    labels = label_path(f"{place}/x.txt").removesuffix("/x.txt")
    if not (folder / labels).is_dir():
        return ()
    names = [path.name for path in entries(folder / labels) if path.suffix == ".txt" and path.name not in _NOT_LABELS]
    return tuple(f"{labels}/{name}" for name in names)
