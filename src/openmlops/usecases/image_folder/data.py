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
from openmlops.core.types import Preprocessing, Problem
from openmlops.core.validation import check_balance, check_constant, content_hashes, fewer, listed, problem
from openmlops.errors import DataError
from openmlops.files import copy_folder, write_bytes
from openmlops.usecases import classifier, splitting
from openmlops.usecases.arranging import SPLITS, VALIDATION_SHARE, entries
from openmlops.usecases.base import ModelInput, Rows
from openmlops.usecases.copies import Seen, check_copies

MAX_FILE_BYTES = 64 * 2**20


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

    def read(self, folder: Path) -> Rows:
        """All images of the folder. Raises DataError for files that cannot be read or are out of place."""
        files, problems = _files(folder, self.classes)
        images, unreadable = _pixels(folder, files, self.decode)
        if wrong := [each for each in (*problems, *unreadable) if each.blocking]:
            raise DataError(f"{folder} cannot be used: {wrong[0]}", "See `openmlops data check` for all problems")
        splits = np.array([file.split for file in files])
        labels = np.array([file.label for file in files], dtype=np.int64)
        return Rows(np.stack(list(images.values())), labels, self.classes, splits == "test", splits == "val")

    def check(self, folder: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
        """All problems of the folder, and images per class. Never raises for bad data."""
        files, problems = _files(folder, self.classes)
        images, unreadable = _pixels(folder, files, self.decode)
        problems += fewer(unreadable)
        for split in SPLITS:
            found = check_balance(_labels(images, split), self.classes, split) if _labels(images, split).size else []
            problems += [each.model_copy(update={"blocking": each.blocking and split != "val"}) for each in found]
        if images:
            problems += check_constant(np.stack(list(images.values())), "images")
            problems += check_copies([Seen(file.path, file.split, image) for file, image in images.items()])
            problems += _contradictions(images)
        counts = np.bincount([file.label for file in images] or [0], minlength=len(self.classes)) * bool(images)
        return tuple(problems), dict(zip(self.classes, counts.tolist(), strict=True))

    def decode(self, content: bytes) -> np.ndarray:
        """An image file's bytes -> uint8 (side, side, 3), RGB. Raises DataError."""
        return decoding.decode_shrunk(content, self.side, self.side)

    def labelled(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Images and classes of a folder with one folder per class and no splits, for simulated traffic.

        Raises DataError for files that cannot be read, and for a class that the data set does not have.
        """
        files, problems = _of_classes(folder, "", self.classes)
        images, unreadable = _pixels(folder, files, self.decode)
        if wrong := [each for each in (*problems, *unreadable) if each.blocking]:
            raise DataError(f"{folder} cannot be used: {wrong[0]}", "Correct or remove the file")
        if not images:
            raise DataError(
                f"There is no image in {folder}", f"Pass a folder with a subfolder for each of {', '.join(self.classes)}"
            )
        return np.stack(list(images.values())), np.array([file.label for file in files], dtype=np.int64)

    def extend(self, folder: Path, images: np.ndarray, labels: np.ndarray, out: Path) -> Path:
        """Copy `folder` to `out` with images uint8 (n, side, side, 3) and labels (n,) in its train folders, as PNG."""
        copy_folder(folder, out)
        numbers = [int(found[1]) for path in out.glob("train/*/production_*") if (found := _PRODUCTION.match(path.name))]
        batch = max(numbers, default=0) + 1
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            write_bytes(out / "train" / self.classes[label] / f"production_{batch}_{row:05d}.png", decoding.png(image))
        return out


_PRODUCTION = re.compile(r"production_(\d+)_\d+\.png$")


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
            problems.append(problem("the file is not in a class folder and is not read", where, blocking=False))
        elif place.name not in classes:
            known = ", ".join(classes)
            problems.append(problem(f"the folder is not one of the classes {known}; add it to the use case, or move it", where))
        else:
            found, wrong = _images(place, where)
            files += [File(path, split, classes.index(place.name)) for path in found]
            problems += wrong
    order = {name: number for number, name in enumerate(classes)}
    return sorted(files, key=lambda file: (order[classes[file.label]], file.path)), problems


def _images(place: Path, where: str) -> tuple[list[str], list[Problem]]:
    found, problems = [], []
    for path in entries(place):
        name = f"{where}/{path.name}"
        if path.is_dir():
            problems.append(problem("subfolders of a class are not read; move the images up", name))
        elif path.suffix.lower() in decoding.SUFFIXES:
            found.append(name)
        else:
            problems.append(problem(f"the file is not an image ({decoding.NAMES}) and is not read", name, blocking=False))
    return found, fewer(problems)


def _pixels(
    folder: Path, files: Sequence[File], decode: Callable[[bytes], np.ndarray]
) -> tuple[dict[File, np.ndarray], list[Problem]]:
    """The pixels of each readable file, in order, and problems for the others."""

    def one(file: File) -> np.ndarray | Problem:
        try:
            if (folder / file.path).stat().st_size > MAX_FILE_BYTES:
                return problem(f"the file has more than {MAX_FILE_BYTES} bytes", file.path)
            return decode((folder / file.path).read_bytes())
        except OSError as error:
            return problem(f"the file cannot be read ({error.strerror})", file.path)
        except DataError as error:
            return problem(error.problem, file.path)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        found = list(zip(files, threads.map(one, files), strict=True))
    images = {file: pixels for file, pixels in found if isinstance(pixels, np.ndarray)}
    return images, [pixels for _, pixels in found if isinstance(pixels, Problem)]


def _labels(images: dict[File, np.ndarray], split: str) -> np.ndarray:
    return np.array([file.label for file in images if file.split == split], dtype=np.int64)


def _contradictions(images: dict[File, np.ndarray]) -> list[Problem]:
    """Problems for equal images in two classes."""
    first: dict[bytes, File] = {}
    pairs = []
    for file, digest in zip(images, content_hashes(np.stack(list(images.values()))), strict=True):
        other = first.setdefault(digest, file)
        if other.label != file.label:
            pairs.append(f"{file.path} is {other.path}")
    return [listed("images are in two classes", "images", pairs, True)] if pairs else []


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
