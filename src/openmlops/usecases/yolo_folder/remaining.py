"""Images of a YOLO export whose labels cannot be used, and the files that nothing uses.

What is not here: the images and labels that are used (exports.py).
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from openmlops.core.images.decoding import SUFFIXES
from openmlops.core.types import Problem
from openmlops.core.validation import listed
from openmlops.names import composed
from openmlops.usecases.leftovers import left_out, unused
from openmlops.usecases.yolo_folder.exports import NAME_FILES, Export, Found, canonical, label_of

MISPLACED = "images are in no folder of images that is read; move them into one, or name their folder in data.yaml"
OTHER_LABELS = "images have a label file, but not as .txt in YOLO's format; export the labels in it"
NO_IMAGE = "label files have no image; add the images, or delete the files"
NO_LABEL_THERE = "label files cannot be read; make them readable, or restore them"
ONE_LABEL = "images have the label file of another image, as a.jpg and a.png; rename them with a label file each"
BACKGROUND = "images have no label file and are used as background"


def misplaced(path: Path) -> str:
    """Why an image is not read."""
    return MISPLACED


def with_labels(images: Sequence[Found], folder: Path) -> tuple[list[Found], list[Problem]]:
    """The images whose labels can be read and are of no other one; `.TXT` counts as `.txt`. An image without any label file is
    background, and told."""
    places = {place: _stems(place) for place in {image.label.parent for image in images}}
    kept: list[Found] = []
    background: list[Found] = []
    wrong: dict[str, list[Found]] = {}
    labels: set[Path] = set()
    for image in images:
        beside = places[image.label.parent].get(composed(image.label.stem), ())
        others = [path for path in beside if path.suffix.lower() not in SUFFIXES]
        texts = [path for path in others if path.suffix.lower() == ".txt"]
        label = image.label if image.label in texts or not texts else texts[0]
        if label in labels:
            wrong.setdefault(ONE_LABEL, []).append(image)
            continue
        labels.add(label)
        if label in texts and not (label.is_file() and os.access(label, os.R_OK)):
            wrong.setdefault(NO_LABEL_THERE, []).append(replace(image, label=label))
        elif others and not texts:
            wrong.setdefault(OTHER_LABELS, []).append(image)
        else:
            kept.append(replace(image, label=label))
            background += [] if texts else [image]
    problems = []
    for why, found in wrong.items():
        shown = [str(image.label) for image in found] if why == NO_LABEL_THERE else []
        problems.append(left_out(why, str(folder), [str(image.source) for image in found], shown))
    if background and len(background) < len(kept):
        problems.append(listed(BACKGROUND, str(folder), [str(image.source) for image in background], blocking=False))
    return kept, problems


def remaining(folder: Path, found: Export, images: Sequence[Found]) -> list[Problem]:
    """The files of the folder that nothing uses; `images` are those that are used. Only the label files without an image if it
    is not known what is used. A label file is left out with its image, if that is left out."""
    if not found.images and (found.problems or found.orphans):
        return _alone(folder, found.orphans)
    used = {path for image in images for path in (image.source, image.label)}
    used |= {image.label.with_name(name) for image in images for name in NAME_FILES}
    told = {Path(name) for each in found.problems for name in each.files}
    others = {path for image in set(found.images) - set(images) for path in (image.source, image.label)}
    known = used | told | others | set(found.read) | set(found.orphans)
    orphans = set(found.orphans)
    rest = unused(folder, known, misplaced, True, lambda path: _orphan_of(path, orphans))
    gone = {name for each in rest for name in each.files}
    return [*_alone(folder, [path for path in found.orphans if str(path) not in gone]), *rest]


def _orphan_of(image: str, orphans: set[Path]) -> list[str]:
    """The label file, among these, of an image that is left out."""
    return [str(path) for path in {label_of(canonical(Path(image)))} & orphans]


def _alone(folder: Path, orphans: Sequence[Path]) -> list[Problem]:
    """A problem for label files without an image."""
    return [left_out(NO_IMAGE, str(folder), [str(path) for path in orphans])] if orphans else []


def _stems(place: Path) -> dict[str, list[Path]]:
    """`composed` stem -> the files of it in a folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        found.setdefault(composed(path.stem), []).append(path)
    return found
