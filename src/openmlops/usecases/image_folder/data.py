"""Images in one folder per class: read, check, decode, and add newly labelled images.

    train/CLASS/a.jpg   val/CLASS/b.png   test/CLASS/c.jpg

Images are of any size and of any format in core.images.decoding.FORMATS. They are turned upright, and the square around their
centre is resized to the model's input, in training, serving and monitoring alike; versions from before that are shown whole
images squashed to squares. Rows are those of `train`, then `val`, then `test`, by class, then by file name. What is not here:
other layouts (arrange.py).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmlops.core.images import decoding
from openmlops.core.images.decoding import is_image
from openmlops.core.images.resizing import cropped, squashed
from openmlops.core.images.summary import moments
from openmlops.core.types import Preprocessing, Problem
from openmlops.core.validation import check_balance, problem
from openmlops.errors import DataError
from openmlops.files import copy_folder, write_bytes
from openmlops.images.index import ImageIndex, index_of
from openmlops.images.lazy import Images, LazyImages, file_of
from openmlops.names import position
from openmlops.usecases import splitting
from openmlops.usecases.arranging import SPLITS, VALIDATION_SHARE, entries
from openmlops.usecases.base import ModelInput, Rows
from openmlops.usecases.copies import Seen, check_copies
from openmlops.usecases.leftovers import left_out, tolerated, unreadable, unused

SIDE = 224
"""usual side in pixels of the input of pretrained networks"""
ONE_COLOUR = "every pixel has the same value"
TWO_CLASSES = "images are in two classes"


@dataclass(frozen=True)
class File:
    """One image of the folder: its relative path, split and class index."""

    path: str
    split: str
    label: int


@dataclass(frozen=True)
class ImageFolder:
    """One data set: its class names in the order of their indices, and the usual side of the square input in pixels."""

    classes: tuple[str, ...]
    side: int = SIDE

    def files(self, folder: Path) -> tuple[str, ...]:
        """The images of the folder, by their paths in it."""
        return tuple(file.path for file in _files(folder, self.classes)[0])

    def read(self, folder: Path, index: ImageIndex | None = None) -> Rows:
        """All images of the folder, on demand. Raises DataError for files that cannot be read or are out of place."""
        files, problems = _files(folder, self.classes)
        found = index_of(folder, [file.path for file in files]) if index is None else index
        broken = _unreadable(files, found)
        if wrong := [each for each in (*problems, *broken) if each.blocking]:
            raise DataError(f"{folder} cannot be used: {wrong[0]}", "See `openmlops data check` for all problems")
        splits = np.array([file.split for file in files])
        return Rows(self._images(folder, files, found), _labels(files), self.classes, splits == "test", splits == "val")

    def check(self, folder: Path, index: ImageIndex | None = None) -> tuple[tuple[Problem, ...], dict[str, int]]:
        """All problems of the folder, and images per class. Never raises for bad data.

        Files that cannot be used are left out of what is counted and checked further; a handful of them does not block.
        """
        files, problems = _files(folder, self.classes)
        found = index_of(folder, [file.path for file in files]) if index is None else index
        unusable = [*_unused(folder, files), *_unreadable(files, found)]
        files = [file for file in files if not found.problems[found.row(file.path)]]
        for find in (_blank, _contradictions):
            wrong = find(files, found)
            files = _without(files, wrong)
            unusable += wrong
        copies = check_copies([Seen.of(file.path, file.split, found) for file in files])
        files = _without(files, copies)
        problems += tolerated([*unusable, *copies], len(files))
        for split in SPLITS:
            labels = _labels([file for file in files if file.split == split])
            balance = check_balance(labels, self.classes, split) if labels.size else []
            problems += [each.model_copy(update={"blocking": each.blocking and split != "val"}) for each in balance]
        counts = np.bincount(_labels(files), minlength=len(self.classes))
        return tuple(problems), dict(zip(self.classes, counts.tolist(), strict=True))

    def _images(self, folder: Path, files: Sequence[File], index: ImageIndex) -> LazyImages:
        found = index.of([file.path for file in files])
        return LazyImages.of_files(folder, found, self.decode, None)

    def decode(self, content: bytes) -> np.ndarray:
        """An image file's bytes -> uint8 (h, w, 3), RGB, reduced if it is much larger than usual. Raises DataError."""
        return decode_for(content, (self.side, self.side))

    def extend(self, folder: Path, images: Images, labels: np.ndarray, out: Path) -> Path:
        """Copy `folder` to `out` with n images and labels (n,) in its train folders: their files as they are, or as PNG."""
        copy_folder(folder, out)
        numbers = [int(found[1]) for path in out.glob("train/*/production_*") if (found := _PRODUCTION.match(path.name))]
        batch = max(numbers, default=0) + 1
        for row, label in enumerate(labels):
            content, suffix = file_of(images, row)
            write_bytes(out / "train" / self.classes[label] / f"production_{batch}_{row:05d}{suffix}", content)
        return out


def decode_for(content: bytes, shape: tuple[int, int]) -> np.ndarray:
    """An image file's bytes -> uint8 (h, w, 3), RGB, reduced if it is much larger than `shape` (height, width). Raises
    DataError."""
    return decoding.decode_reduced(content, 2 * max(shape))


_PRODUCTION = re.compile(r"production_(\d+)_\d+\.\w+$")


def in_layout(folder: Path) -> bool:
    """Whether it has a folder for each split."""
    return all((folder / split).is_dir() for split in SPLITS)


def _files(folder: Path, classes: Sequence[str]) -> tuple[list[File], list[Problem]]:
    """The images of all splits in order, and problems for files out of place."""
    files: list[File] = []
    problems: list[Problem] = []
    for split in SPLITS:
        if not (folder / split).is_dir():
            problems.append(
                problem(f"the folder is missing; create it with a subfolder for each of {', '.join(classes)}", split)
            )
            continue
        found, wrong = _of_classes(folder, split, classes)
        files, problems = files + found, problems + wrong
        if not found:
            problems.append(problem("there are no images", split))
    return files, problems


def _of_classes(folder: Path, split: str, classes: Sequence[str]) -> tuple[list[File], list[Problem]]:
    files, problems = [], []
    for place in entries(folder / split) if (folder / split).is_dir() else ():
        where = f"{split}/{place.name}".lstrip("/")
        if not place.is_dir():
            continue
        label = position(place.name, classes)
        if label is None:
            known = ", ".join(classes)
            problems.append(problem(f"the folder is not one of the classes {known}; add it to the use case, or move it", where))
        else:
            files += [File(f"{where}/{path.name}", split, label) for path in entries(place) if is_image(path)]
    order = {name: number for number, name in enumerate(classes)}
    return sorted(files, key=lambda file: (order[classes[file.label]], file.path)), problems


def _unused(folder: Path, files: Sequence[File]) -> list[Problem]:
    """Every other file of the folder; what is in a folder that is no class is a problem of its own."""
    return unused(folder, {folder / file.path for file in files}, _misplaced, absolute=False)


def _misplaced(path: Path) -> str:
    is_deep = len(path.parts) > (3 if path.parts[0] in SPLITS else 2)
    if is_deep:
        return "images are in subfolders of a class, which are not read; move them up"
    return "images are not in a class folder; move them into one"


def _unreadable(files: Sequence[File], index: ImageIndex) -> list[Problem]:
    """Problems for the files that cannot be read, by reason."""
    reasons = {file.path: index.problems[index.row(file.path)] for file in files}
    return unreadable({path: why for path, why in reasons.items() if why}, "images")


def _without(files: Sequence[File], problems: Sequence[Problem]) -> list[File]:
    """The files that no problem leaves out."""
    gone = {name for each in problems if each.unused == "left out" for name in each.files}
    return [file for file in files if file.path not in gone]


def _blank(files: Sequence[File], index: ImageIndex) -> list[Problem]:
    """A problem for images of one colour."""
    blank = [file.path for file in files if index.columns["blank"][index.row(file.path)]]
    return [left_out(ONE_COLOUR, "images", blank)] if blank else []


def _labels(files: Sequence[File]) -> np.ndarray:
    return np.array([file.label for file in files], dtype=np.int64)


def _contradictions(files: Sequence[File], index: ImageIndex) -> list[Problem]:
    """A problem for equal images in two classes: none of them is used, because nobody knows which class is right."""
    equal: dict[bytes, list[File]] = {}
    for file in files:
        equal.setdefault(index.digest(file.path), []).append(file)
    groups = [group for group in equal.values() if len({file.label for file in group}) > 1]
    examples = [f"{file.path} is {group[0].path}" if row else file.path for group in groups for row, file in enumerate(group)]
    paths = [file.path for group in groups for file in group]
    return [left_out(TWO_CLASSES, "images", paths, examples)] if groups else []


def to_model_input(images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int]) -> ModelInput:
    """The whole images, squashed to `shape` (height, width): for versions that recorded no way of resizing."""
    return _input(images, shape, squashed, "default")


def cropped_to_model_input(images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int]) -> ModelInput:
    """What is around the centre of the images, resized to `shape` (height, width)."""
    return _input(images, shape, cropped, "crop")


def _input(
    images: Sequence[np.ndarray] | np.ndarray,
    shape: tuple[int, int],
    change: Callable[[np.ndarray, tuple[int, int]], np.ndarray],
    resize: str,
) -> ModelInput:
    if isinstance(images, np.ndarray) and images.shape[1:3] == shape:
        pixels = images
    else:
        pixels = np.stack([change(image, shape) for image in images])
    return ModelInput(pixels, np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2), resize)


def split(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """Row indices of the folder's three splits, without copies across them."""
    return splitting.split(rows, seed, VALIDATION_SHARE, rows.labels)


def preprocess(rows: Rows, train: np.ndarray) -> Preprocessing:
    """Mean and standard deviation of each channel over the training images; the deviation of a constant channel is 1."""
    assert isinstance(rows.images, LazyImages)
    found = rows.images[train]
    (red, green, blue), std = moments(*(found.column(name) for name in ("pixels", "sums", "squares")))
    red_std, green_std, blue_std = (float(each) or 1.0 for each in std)
    return Preprocessing(mean=(float(red), float(green), float(blue)), std=(red_std, green_std, blue_std), resize="crop")
