"""CIFAR-10 in its official layout: read, check, and decode an image to its size.

A folder contains `data_batch_1` to `data_batch_5` (higher numbers hold newly labelled images), `test_batch` and
`batches.meta`. Rows are those of the data batches in order, then of the test batch. What is not here: parsing of a file
(batches.py) and the sample (sample.py).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.core.images import decoding
from openmlops.core.types import Problem
from openmlops.core.validation import (
    check_array,
    check_balance,
    check_constant,
    check_duplicates,
    check_labels,
    problem,
)
from openmlops.errors import DataError
from openmlops.usecases.base import Archive, Rows
from openmlops.usecases.cifar10 import batches

ARCHIVE = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    checksum="md5:c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
)
SIDE = 32
"""Height and width of an image in pixels."""
META, TEST = "batches.meta", "test_batch"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

_VALUES = 3 * SIDE * SIDE


def read(folder: Path) -> Rows:
    """All images of the folder. Raises DataError if a file cannot be read or lacks the official structure."""
    contents, problems = _load(folder)
    if problems:
        raise DataError(f"{folder} cannot be used: {problems[0]}", "See `openmlops data check` for all problems")
    names = contents.pop(META)
    images, labels = _stack(list(contents.values()))
    test = np.zeros(len(labels), dtype=bool)
    test[-len(contents[TEST][b"labels"]) :] = True
    return Rows(images=images, labels=labels, names=names, test=test)


def check(folder: Path) -> tuple[tuple[Problem, ...], dict[str, int]]:
    """All problems of the folder, and images per class. Never raises for bad data."""
    contents, problems = _load(folder)
    if problems:
        return tuple(problems), {}
    names = contents.pop(META)
    for name, batch in contents.items():
        problems += check_constant(batch[b"data"], name)
    images, labels = _stack(list(contents.values()))
    first_test = len(labels) - len(contents[TEST][b"labels"])
    train, test = slice(0, first_test), slice(first_test, None)
    problems += check_balance(labels[train], names, "data batches")
    problems += check_balance(labels[test], names, TEST)
    problems += check_duplicates(images[train], images[test], "the data batches", TEST)
    return tuple(problems), dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))


def _load(folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """File name -> content (class names for the meta file, the test batch last), and the structural problems of all files."""
    contents: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in (META, *_batch_names(folder)):
        try:
            contents[name] = batches.load(folder / name)
        except DataError as error:
            what = "the file is missing" if not (folder / name).exists() else error.problem.removeprefix(f"{name} ")
            problems.append(problem(what, name))
    if META not in contents:
        return contents, problems
    found, contents[META], per_batch = _meta(contents[META])
    problems += found
    for name, batch in contents.items():
        if name != META and contents[META]:
            problems += _check_batch(batch, name, len(contents[META]), per_batch if name in (*TRAIN, TEST) else None)
    return contents, problems


def _batch_names(folder: Path) -> tuple[str, ...]:
    """The official batches, then `data_batch_6` and higher if present, then the test batch."""
    extra = [path.name for path in folder.glob("data_batch_*") if re.fullmatch(r"data_batch_\d+", path.name)]
    further = sorted(set(extra) - set(TRAIN), key=lambda name: int(name.rpartition("_")[2]))
    return (*TRAIN, *further, TEST)


def _meta(meta: dict[bytes, Any]) -> tuple[list[Problem], tuple[str, ...], int | None]:
    """Problems, class names and images in each official batch."""
    labels, per_batch = meta.get(b"label_names"), meta.get(b"num_cases_per_batch")
    if not isinstance(labels, list) or not all(isinstance(name, bytes) for name in labels) or len(set(labels)) < 2:
        return [problem("label_names is not a list of at least two different names", META)], (), None
    names = tuple(name.decode("utf-8", "replace") for name in labels)
    if type(per_batch) is not int:
        return [problem("num_cases_per_batch is not a whole number", META)], names, None
    return [], names, per_batch


def _check_batch(batch: dict[bytes, Any], where: str, classes: int, expected: int | None) -> list[Problem]:
    """Check the structure of one batch: keys, dtype, shape, counts and label range."""
    absent = [key.decode() for key in (b"data", b"labels") if key not in batch]
    if absent:
        return [problem(f"there is no {' and no '.join(absent)}", where)]
    data, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(labels, list | np.ndarray):
        return [problem(f"labels is a {type(labels).__name__}, not a list", where)]
    found = check_array(data, "uint8", _VALUES, where)
    if found:
        return found
    if expected is not None and len(data) != expected:
        found.append(problem(f"there are {len(data)} images instead of {expected}", where))
    if b"filenames" in batch and len(batch[b"filenames"]) != len(data):
        found.append(problem(f"there are {len(batch[b'filenames'])} file names for {len(data)} images", where))
    return found + check_labels(labels, len(data), classes, where)


def _stack(contents: list[dict[bytes, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 32, 32, 3) from rows of 1,024 red, green and blue values each, and labels int64 (n,)."""
    labels = np.concatenate([np.asarray(batch[b"labels"], dtype=np.int64) for batch in contents])
    images = np.empty((len(labels), SIDE, SIDE, 3), dtype=np.uint8)
    start = 0
    for batch in contents:
        rows = batch[b"data"]
        images[start : start + len(rows)] = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        start += len(rows)
    return images, labels


def decode(content: bytes) -> np.ndarray:
    """An image file's bytes -> uint8 (32, 32, 3), RGB, resized if needed. Raises DataError."""
    return decoding.decode_image(content, SIDE, SIDE)
