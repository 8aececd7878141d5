"""Images in one folder per class: read, check, decode, and add newly labelled images.

    train/CLASS/a.jpg   val/CLASS/b.png   test/CLASS/c.jpg

Images are of any size and of any format in core.images.decoding.FORMATS. They are turned upright and resized to squares, in
training and serving alike. Rows are those of `train`, then `val`, then `test`, by class, then by file name. What is not here:
other layouts (arrange.py).
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from openmlops.core.images import decoding
from openmlops.core.images.decoding import is_image
from openmlops.core.types import Preprocessing, Problem
from openmlops.core.validation import check_balance, content_hashes, problem
from openmlops.errors import DataError
from openmlops.files import copy_folder, write_bytes
from openmlops.usecases import classifier, splitting
from openmlops.usecases.arranging import SPLITS, VALIDATION_SHARE, entries
from openmlops.usecases.base import Labelled, ModelInput, Rows
from openmlops.usecases.copies import Seen, check_copies
from openmlops.usecases.leftovers import left_out, tolerated, unreadable, unused

MAX_FILE_BYTES = 64 * 2**20
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
    """One data set: its class names in the order of their indices, and the side of the square input in pixels."""

    classes: tuple[str, ...]
    side: int

    def files(self, folder: Path) -> tuple[str, ...]:
        """The images of the folder, by their paths in it."""
        return tuple(file.path for file in _files(folder, self.classes)[0])

    def read(self, folder: Path) -> Rows:
        """All images of the folder. Raises DataError for files that cannot be read or are out of place."""
        files, problems = _files(folder, self.classes)
        images, broken = _pixels(folder, files, self.decode)
        if wrong := [each for each in (*problems, *broken) if each.blocking]:
            raise DataError(f"{folder} cannot be used: {wrong[0]}", "See `openmlops data check` for all problems")
        splits = np.array([file.split for file in files])
        labels = np.array([file.label for file in files], dtype=np.int64)
        return Rows(np.stack(list(images.values())), labels, self.classes, splits == "test", splits == "val")

    def check(self, folder: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
        """All problems of the folder, and images per class. Never raises for bad data.

        Files that cannot be used are left out of what is counted and checked further; a handful of them does not block.
        """
        files, problems = _files(folder, self.classes)
        images, unusable = _pixels(folder, files, self.decode)
        unusable = [*_unused(folder, files), *unusable]
        for find in (_blank, _contradictions):
            found = find(images)
            images = _without(images, found)
            unusable += found
        copies = check_copies([Seen(file.path, file.split, image) for file, image in images.items()]) if images else []
        images = _without(images, copies)
        problems += tolerated([*unusable, *copies], len(images))
        for split in SPLITS:
            found = check_balance(_labels(images, split), self.classes, split) if _labels(images, split).size else []
            problems += [each.model_copy(update={"blocking": each.blocking and split != "val"}) for each in found]
        counts = np.bincount([file.label for file in images] or [0], minlength=len(self.classes)) * bool(images)
        return tuple(problems), dict(zip(self.classes, counts.tolist(), strict=True))

    def decode(self, content: bytes) -> np.ndarray:
        """An image file's bytes -> uint8 (side, side, 3), RGB. Raises DataError."""
        return decoding.decode_shrunk(content, self.side, self.side)

    def labelled(self, folder: Path) -> Labelled:
        """Images and classes of a folder with one folder per class and no splits, for simulated traffic.

        Raises DataError for a class that the data set does not have, and if there is no image that can be read.
        """
        files, problems = _of_classes(folder, "", self.classes)
        if wrong := [each for each in problems if each.blocking]:
            raise DataError(f"{folder} cannot be used: {wrong[0]}", "Correct or remove the file")
        images, broken = _pixels(folder, files, self.decode)
        unusable = [*_unused(folder, files), *broken]
        if not images:
            reason = f" ({unusable[0]})" if unusable else ""
            problem = f"There is no image in {folder}{reason}"
            raise DataError(problem, f"Pass a folder with a subfolder for each of {', '.join(self.classes)}")
        labels = np.array([file.label for file in images], dtype=np.int64)
        return Labelled(np.stack(list(images.values())), labels, tuple(tolerated(unusable, len(images))))

    def extend(self, folder: Path, images: np.ndarray, labels: np.ndarray, out: Path) -> Path:
        """Copy `folder` to `out` with images uint8 (n, side, side, 3) and labels (n,) in its train folders, as PNG."""
        copy_folder(folder, out)
        numbers = [int(found[1]) for path in out.glob("train/*/production_*") if (found := _PRODUCTION.match(path.name))]
        batch = max(numbers, default=0) + 1
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            write_bytes(out / "train" / self.classes[label] / f"production_{batch}_{row:05d}.png", decoding.png(image))
        return out


_PRODUCTION = re.compile(r"production_(\d+)_\d+\.png$")


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
        if place.name not in classes:
            known = ", ".join(classes)
            problems.append(problem(f"the folder is not one of the classes {known}; add it to the use case, or move it", where))
        else:
            label = classes.index(place.name)
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


def _pixels(
    folder: Path, files: Sequence[File], decode: Callable[[bytes], np.ndarray]
) -> tuple[dict[File, np.ndarray], list[Problem]]:
    """The pixels of each readable file, in order, and problems for the others, by reason."""

    def one(file: File) -> np.ndarray | str:
        try:
            if (folder / file.path).stat().st_size > MAX_FILE_BYTES:
                return f"the file has more than {MAX_FILE_BYTES} bytes"
            return decode((folder / file.path).read_bytes())
        except OSError as error:
            return f"the file cannot be read ({error.strerror})"
        except DataError as error:
            return error.problem

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found = list(zip(files, threads.map(one, files), strict=True))
    images = {file: pixels for file, pixels in found if isinstance(pixels, np.ndarray)}
    return images, unreadable({file.path: why for file, why in found if isinstance(why, str)}, "images")


def _without(images: dict[File, np.ndarray], problems: Sequence[Problem]) -> dict[File, np.ndarray]:
    """The images that no problem leaves out."""
    gone = {name for each in problems if each.unused == "left out" for name in each.files}
    return {file: pixels for file, pixels in images.items() if file.path not in gone}


def _blank(images: dict[File, np.ndarray]) -> list[Problem]:
    """A problem for images of one colour."""
    files = [file.path for file, pixels in images.items() if (pixels == pixels[:1, :1]).all()]
    return [left_out(ONE_COLOUR, "images", files)] if files else []


def _labels(images: dict[File, np.ndarray], split: str) -> np.ndarray:
    return np.array([file.label for file in images if file.split == split], dtype=np.int64)


def _contradictions(images: dict[File, np.ndarray]) -> list[Problem]:
    """A problem for equal images in two classes: none of them is used, because nobody knows which class is right."""
    if not images:
        return []
    equal: dict[bytes, list[File]] = {}
    for file, digest in zip(images, content_hashes(np.stack(list(images.values()))), strict=True):
        equal.setdefault(digest, []).append(file)
    groups = [files for files in equal.values() if len({file.label for file in files}) > 1]
    examples = [f"{file.path} is {files[0].path}" if row else file.path for files in groups for row, file in enumerate(files)]
    files = [file.path for group in groups for file in group]
    return [left_out(TWO_CLASSES, "images", files, examples)] if groups else []


def to_model_input(images: Sequence[np.ndarray] | np.ndarray, shape: tuple[int, int]) -> ModelInput:
    """The images unchanged, or resized for a model with another input size than the use case has now."""
    if all(image.shape[:2] == shape for image in images):
        return classifier.to_model_input(images, shape)
    scaled = [np.array(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR)) for image in images]
    return ModelInput(np.stack(scaled), np.array([image.shape[:2] for image in images], dtype=np.int64))


def split(rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """Row indices of the folder's three splits, without copies across them."""
    return splitting.split(rows, seed, VALIDATION_SHARE, rows.labels)


def preprocess(rows: Rows, train: np.ndarray) -> Preprocessing:
    """Mean and standard deviation of each channel over the training images; the deviation of a constant channel is 1."""
    found = classifier.preprocess(rows, train)
    red, green, blue = (each or 1.0 for each in found.std)
    return found.model_copy(update={"std": (red, green, blue)})
