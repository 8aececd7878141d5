"""Detection data in YOLO's layout: read, check, split and normalisation.

Rows are the images of `train`, then `val`, then `test`, each sorted by path. Boxes refer to the upright image, as label tools
show it: the EXIF orientation is applied. What is not here: `data.yaml` and file names (folder.py), label files (labels.py).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmlops.core.images import decoding
from openmlops.core.images.boxes import objects
from openmlops.core.types import Preprocessing, Problem
from openmlops.core.validation import fewer, listed, problem
from openmlops.errors import DataError
from openmlops.files import write_text
from openmlops.usecases import splitting
from openmlops.usecases.base import Rows
from openmlops.usecases.copies import Seen, check_copies
from openmlops.usecases.yolo_folder.config import MAX_NAMES, read_text
from openmlops.usecases.yolo_folder.folder import Contents, contents, label_path
from openmlops.usecases.yolo_folder.labels import MAX_BYTES, bad_lines, parse, without

VALIDATION_SHARE = 0.2
"""Share of the training images held out for validation if the data set has no validation split."""
MIN_SIDE = 16
"""Smallest height and width of an image in pixels."""
MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class _Image:
    path: str
    split: str
    pixels: np.ndarray
    labels: np.ndarray
    turned: bool
    """whether its EXIF orientation was applied"""


def read(folder: Path) -> Rows:
    """All images of the folder with their boxes. Raises DataError if a file cannot be read or lacks YOLO's structure.

    Boxes are clipped to the image; repeated label lines are ignored.
    """
    found, images, problems = _load(folder)
    blocking = [problem for problem in problems if problem.blocking]
    if blocking:
        raise DataError(f"{folder} cannot be used: {blocking[0]}", "See `openmlops data check` for all problems")
    splits = np.array([image.split for image in images])
    return Rows(
        images=objects([image.pixels for image in images]),
        labels=objects([image.labels for image in images]),
        names=found.names,
        test=splits == "test",
        validation=splits == "val" if "val" in found.images else None,
    )


def check(folder: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """All problems of the folder, and boxes per class. Never raises for bad data."""
    found, images, problems = _load(folder)
    problems = fewer(problems) + _check_boxes(images, found)
    if images:
        problems += check_copies([Seen(image.path, image.split, image.pixels) for image in images])
    if turned := [image.path for image in images if image.turned]:
        what = "images are turned as their EXIF orientation says, and their boxes must fit the upright ones"
        problems.append(listed(what, "images", turned, blocking=False))
    return tuple(problems), _count(images, found.names)


def _load(folder: Path) -> tuple[Contents, list[_Image], list[Problem]]:
    """The folder's structure, all usable images, and the problems of the others."""
    found = contents(folder)
    images, problems = _opened(folder, found) if found.usable else ([], [])
    return found, images, [*found.problems, *problems]


def _opened(folder: Path, found: Contents) -> tuple[list[_Image], list[Problem]]:
    images, problems = [], []
    for split, path in ((split, path) for split, paths in found.images.items() for path in paths):
        pixels, turned, wrong = _pixels(folder, path)
        problems += wrong
        if pixels is not None:
            where = label_path(path)
            labels, wrong = parse(folder / where, where, len(found.names), pixels.shape[:2])
            problems += wrong
            images.append(_Image(path, split, pixels, labels, turned))
    return images, problems


def _pixels(folder: Path, path: str) -> tuple[np.ndarray | None, bool, list[Problem]]:
    """uint8 (h, w, 3), or None with the reason; and whether the EXIF orientation was applied."""
    try:
        if (folder / path).stat().st_size > MAX_FILE_BYTES:
            return None, False, [problem(f"the file has more than {MAX_FILE_BYTES} bytes", path)]
        pixels, turned = decoding.decode_turned((folder / path).read_bytes())
    except OSError as error:
        return None, False, [problem(f"the file cannot be read ({error.strerror})", path)]
    except DataError as error:
        return None, False, [problem(error.problem, path)]
    if min(pixels.shape[:2]) < MIN_SIDE:
        what = f"the image has {pixels.shape[1]}x{pixels.shape[0]} pixels, less than {MIN_SIDE} on a side"
        return None, False, [problem(what, path)]
    return pixels, turned, []


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


def labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and boxes of a folder with images/ and labels/ and no splits, for simulated traffic. Raises DataError.

    Class indices are not checked: a label file does not give the number of classes.
    """
    names = Contents(names=tuple(map(str, range(MAX_NAMES))), images={"train": tuple(_listing(folder))})
    images, problems = _opened(folder, names)
    if problems := [problem for problem in problems if problem.blocking]:
        raise DataError(f"{folder} cannot be used: {problems[0]}", "Correct or remove the file")
    return objects([image.pixels for image in images]), objects([image.labels for image in images])


def _listing(folder: Path) -> list[str]:
    found = sorted(path.name for path in (folder / "images").glob("[!.]*") if path.suffix.lower() in decoding.SUFFIXES)
    if not found:
        raise DataError(f"There is no image in {folder / 'images'}", "Pass the folder that contains images/ and labels/")
    return [f"images/{name}" for name in found]


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
