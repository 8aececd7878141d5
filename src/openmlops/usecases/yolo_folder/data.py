"""Detection data in YOLO's layout: read, check, split and normalisation.

Rows are the images of `train`, then `val`, then `test`, each sorted by path. Boxes refer to the upright image, as label tools
show it: the EXIF orientation is applied. What is not here: `data.yaml` and file names (folder.py), label files (labels.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from openmlops.core.images import decoding
from openmlops.core.images.boxes import objects
from openmlops.core.types import Preprocessing, Problem
from openmlops.core.validation import fewer, listed, problem
from openmlops.errors import DataError
from openmlops.files import write_text
from openmlops.images.index import ImageIndex, index_of
from openmlops.images.lazy import LazyImages
from openmlops.usecases import splitting
from openmlops.usecases.base import Rows
from openmlops.usecases.copies import Seen, check_copies
from openmlops.usecases.leftovers import left_out, tolerated, unreadable, unused, with_beside
from openmlops.usecases.yolo_folder.config import CONFIG, read_text
from openmlops.usecases.yolo_folder.folder import Contents, contents, label_path
from openmlops.usecases.yolo_folder.labels import MAX_BYTES, OUTSIDE, POLYGON, bad_lines, have_keypoints, parse, without
from openmlops.usecases.yolo_folder.remaining import NO_IMAGE, misplaced

VALIDATION_SHARE = 0.2
"""Share of the training images held out for validation if the data set has no validation split."""
MIN_SIDE = 16
"""Smallest height and width of an image in pixels."""


@dataclass(frozen=True, eq=False)
class _Image:
    path: str
    split: str
    labels: np.ndarray


def read(folder: Path, index: ImageIndex | None = None) -> Rows:
    """All images of the folder, on demand, with their boxes. Raises DataError if a file cannot be read or lacks YOLO's
    structure.

    Boxes are clipped to the image; repeated label lines are ignored.
    """
    found, images, index, problems = _load(folder, index)
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        raise DataError(f"{folder} cannot be used: {blocking[0]}", "See `openmlops data check` for all problems")
    splits = np.array([image.split for image in images])
    return Rows(
        images=_lazy(folder, images, index),
        labels=objects([image.labels for image in images]),
        names=found.names,
        test=splits == "test",
        validation=splits == "val" if "val" in found.images else None,
    )


def in_layout(folder: Path) -> bool:
    """Whether its structure is that of folder.py, whatever its images and labels hold."""
    found = contents(folder)
    return found.usable and not found.problems


def _lazy(folder: Path, images: Sequence[_Image], index: ImageIndex) -> LazyImages:
    return LazyImages.of_files(folder, index.of([image.path for image in images]), decode, None)


def names(folder: Path) -> tuple[str, ...]:
    """The class names of the folder's data.yaml; none if they cannot be read."""
    return contents(folder).names


def files(folder: Path) -> tuple[str, ...]:
    """The images of the folder, by their paths in it."""
    return _paths(contents(folder))


def check(folder: Path, index: ImageIndex | None = None) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """All problems of the folder, and boxes per class. Never raises for bad data.

    Images that cannot be used are left out of what is counted and checked further; a handful of them does not block.
    """
    found, images, index, problems = _load(folder, index)
    problems = fewer([*(_unused(folder, found) if found.usable and found.complete else ()), *problems])
    for find in (_blank, _contradictions):
        wrong = find(images, index)
        images = _without(images, wrong)
        problems += wrong
    copies = check_copies([Seen.of(image.path, image.split, index) for image in images], _beside)
    images = _without(images, copies)
    problems = tolerated([*problems, *copies], len(images)) + _check_boxes(images, found)
    if turned := [image.path for image in images if index.columns["turned"][index.row(image.path)]]:
        what = "images are turned as their EXIF orientation says, and their boxes must fit the upright ones"
        problems.append(listed(what, "images", turned, blocking=False))
    return tuple(problems), _count(images, found.names)


def _beside(path: str) -> tuple[str, ...]:
    """The label file of an image is left out with it."""
    return (label_path(path),)


def _unused(folder: Path, found: Contents) -> list[Problem]:
    """Label files without an image, and files that nothing uses."""
    images = [path for paths in found.images.values() for path in paths]
    labels = [label_path(path) for path in images]
    orphans = sorted(set(found.labels) - set(labels))
    used = {folder / path for path in (*images, *labels, *orphans, CONFIG)}
    rest = unused(folder, used, misplaced, absolute=False, beside=lambda path: _orphan_of(path, set(orphans)))
    gone = {path for each in rest for path in each.files}
    alone = [orphan for orphan in orphans if orphan not in gone]
    return [*([left_out(NO_IMAGE, "labels", alone)] if alone else []), *rest]


def _orphan_of(path: str, orphans: set[str]) -> tuple[str, ...]:
    """The label file, among these, of an image that is left out."""
    return tuple({label_path(path)} & orphans) if "images" in PurePosixPath(path).parts[:-1] else ()


def _without(images: list[_Image], problems: list[Problem]) -> list[_Image]:
    """The images that no problem leaves out."""
    gone = {path for each in problems if each.unused == "left out" for path in each.files}
    return [image for image in images if image.path not in gone]


def _blank(images: list[_Image], index: ImageIndex) -> list[Problem]:
    """A problem for images of one colour that have boxes."""
    blank = [image.path for image in images if len(image.labels) and index.columns["blank"][index.row(image.path)]]
    what = "every pixel has the same value, and there are boxes"
    return [left_out(what, "images", with_beside(blank, _beside), blank)] if blank else []


def _contradictions(images: list[_Image], index: ImageIndex) -> list[Problem]:
    """A problem for equal images with different boxes: none of them is used, because nobody knows which are right."""
    equal: dict[bytes, list[_Image]] = {}
    for image in images:
        equal.setdefault(index.digest(image.path), []).append(image)
    groups = [group for group in equal.values() if len({image.labels.tobytes() for image in group}) > 1]
    paths = [image.path for group in groups for image in group]
    firsts = [group[0].path for group in groups for _ in group]
    examples = [path if path == first else f"{path} is {first}" for path, first in zip(paths, firsts, strict=True)]
    return [left_out("equal images have different boxes", "images", with_beside(paths, _beside), examples)] if groups else []


def _load(folder: Path, index: ImageIndex | None) -> tuple[Contents, list[_Image], ImageIndex, list[Problem]]:
    """The folder's structure, all usable images, their index, and the problems of the others."""
    found = contents(folder)
    if not found.usable:
        return found, [], index_of(folder, ()), list(found.problems)
    index = index_of(folder, _paths(found)) if index is None else index
    images, problems = _opened(folder, found, index)
    return found, images, index, [*found.problems, *problems]


def _paths(found: Contents) -> tuple[str, ...]:
    return tuple(path for paths in found.images.values() for path in paths)


def _opened(folder: Path, found: Contents, index: ImageIndex) -> tuple[list[_Image], list[Problem]]:
    images, problems, broken = [], [], {}
    for split, path in ((split, path) for split, paths in found.images.items() for path in paths):
        if why := unusable(index, path):
            broken[path] = why
            continue
        where = label_path(path)
        labels, wrong = parse(folder / where, where, len(found.names), index.size(path))
        problems += wrong
        images.append(_Image(path, split, labels))
    return images, [*unreadable(broken, "images", _beside), *without_keypoints(folder, problems)]


def without_keypoints(folder: Path, problems: list[Problem]) -> list[Problem]:
    """The problems, with one instead of what is said of lines as polygons if they are boxes with keypoints."""
    files = list(dict.fromkeys(each.where for each in problems if each.what in (POLYGON, OUTSIDE)))
    if not have_keypoints(read_text(folder / where, MAX_BYTES)[0] for where in files):
        return problems
    what = "the lines are boxes with keypoints, which are not supported; export boxes, or polygons, without keypoints"
    return [problem(what, files[0]), *(each for each in problems if each.what not in (POLYGON, OUTSIDE))]


def unusable(index: ImageIndex, path: str) -> str:
    """Why an image cannot be used; empty if it can."""
    height, width = index.size(path)
    if not index.problems[index.row(path)] and min(height, width) < MIN_SIDE:
        return f"the image has {width}x{height} pixels, less than {MIN_SIDE} on a side"
    return index.problems[index.row(path)]


def _count(images: list[_Image], names: tuple[str, ...]) -> dict[str, int]:
    classes = np.concatenate([image.labels[:, 4] for image in images] or [np.zeros(0)]).astype(np.int64)
    return dict(zip(names, np.bincount(classes, minlength=len(names)).tolist(), strict=True))


def _check_boxes(images: list[_Image], found: Contents) -> list[Problem]:
    """Check that every split has boxes. A class without any is a warning."""
    problems = []
    for split, paths in found.images.items():
        counts = _count([image for image in images if image.split == split], found.names)
        if paths and counts and not any(counts.values()):
            problems.append(problem(f"there are no boxes in {split}", split))
        elif absent := [name for name, count in counts.items() if count == 0]:
            problems.append(problem(f"there are no boxes of {', '.join(absent[:20])}", split, blocking=False))
    return problems


def leave_out_bad_labels(folder: Path) -> tuple[Problem, ...]:
    """Make the lines of label files that are no boxes comments, which keep their text, and return them. Never raises for bad
    data."""
    found = contents(folder)
    problems = []
    for where in (label_path(path) for paths in found.images.values() for path in paths):
        try:
            text, wrong = read_text(folder / where, MAX_BYTES)
        except FileNotFoundError:
            continue
        if bad := {} if wrong else bad_lines(text, len(found.names)):
            write_text(folder / where, without(text, bad))
        for reason in dict.fromkeys(bad.values()):
            rows = [number for number in bad if bad[number] == reason]
            problems.append(problem(f"left out, because {reason}", where, rows, blocking=False, altered=True))
    return tuple(fewer(problems))


def decode(content: bytes) -> np.ndarray:
    """An image file's bytes -> uint8 (h, w, 3) at its own size. Raises DataError, also for sides below MIN_SIDE pixels."""
    image = decoding.decode_native(content)
    if min(image.shape[:2]) < MIN_SIDE:
        problem = f"The image has {image.shape[1]}x{image.shape[0]} pixels, less than {MIN_SIDE} on a side"
        raise DataError(problem, "Send a larger one")
    return image


def split(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """Row indices (int64, ascending) of the data set's splits; VALIDATION_SHARE is drawn if there is no validation split."""
    return splitting.split(rows, seed, VALIDATION_SHARE)


def preprocess(rows: Rows, train: np.ndarray) -> Preprocessing:
    """Division by 255, independent of the images, as YOLO networks expect."""
    return Preprocessing(mean=(0, 0, 0), std=(255, 255, 255))
