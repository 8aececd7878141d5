"""Import of image folders in common layouts into a use case's layout: splits kept or drawn, files copied byte for byte.

What is here: what classification and detection share. What is not: how a layout assigns labels to files
(`image_folder.arrange`, `yolo_folder.arrange`), and validation of the result (each one's `data`).
"""

import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from openmlops.core.types import Problem
from openmlops.errors import DataError
from openmlops.files import copy_read_file, has_reflinks
from openmlops.images.index import ImageIndex
from openmlops.names import composed
from openmlops.usecases.leftovers import is_system

SPLITS = ("train", "val", "test")
TEST_SHARE, MOST_TEST_SHARE = 0.2, 0.3
"""Share of the images drawn for the test split if the folder has none; and the largest share, if TELLING requires it."""
TELLING = 150
"""Test images that tell an accuracy of 90 % within 5 points either way (95 % interval)."""
VALIDATION_SHARE, MOST_VALIDATION_SHARE = 0.2, 0.45
"""Share of the rest drawn for validation if the folder has no such split; and the largest share, if MONITORABLE requires it."""
MONITORABLE = 100
"""Validation images needed for drift detection: two of the smallest windows (core.monitoring)."""
ENOUGH = 300
"""Fewest images for which the draw provides MONITORABLE validation images."""

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Arranged:
    """The result of an import: class names, new path -> source of each file, and problems."""

    names: tuple[str, ...]
    sources: dict[str, Path]
    problems: tuple[Problem, ...]
    index: ImageIndex | None = None
    """what is known of the images, which need not be looked at again"""
    side: int = 0
    """suitable side of a classifier's square input, in pixels"""

    @property
    def known(self) -> tuple[ImageIndex, ...]:
        """The index, if there is one."""
        return () if self.index is None else (self.index,)

    def with_source_paths(self, problem: Problem) -> Problem:
        """A problem of the imported files, with the paths of their sources."""
        what = problem.what
        for name in sorted(problem.files, key=len, reverse=True):  # names with spaces are no words
            what = what.replace(name, self._source(name))
        what = "".join(self._source(word) for word in re.split(r"(\s|; )", what))
        where = self._folder(problem.where) or self._source(problem.where)
        return problem.model_copy(update={"where": where, "what": what})

    def _folder(self, name: str) -> str:
        """The one folder that the files below `name` come from; empty if there is none, or more than one."""
        found = {source.parent for place, source in self.sources.items() if place.startswith(f"{name}/")}
        return str(found.pop()) if len(found) == 1 else ""

    def _source(self, name: str) -> str:
        return str(self.sources[name]) if name in self.sources else name


def split_name(folder: str) -> str | None:
    """`valid` or `val2017` -> `val`; None for a folder that is not a split."""
    return _SPLIT_NAMES.get(re.sub(r"\d*$", "", folder.lower()))


def drawn(groups: Sequence[str], given: set[str], total: int, scenes: Sequence[str] | None = None) -> list[str]:
    """A split for each of n images without one. `groups` are content digests: equal ones share a split, and their order is
    the random order. So do images of one of `scenes`, if there are at least three.

    Only splits that are not `given` are drawn. `total` is the number of images of all classes without a split.
    """
    leaders = dict(zip(groups, groups, strict=True)) if scenes is None else _leaders(groups, scenes)
    if len(set(leaders.values())) < len(SPLITS):
        leaders = dict(zip(groups, groups, strict=True))
    order = sorted(set(groups), key=lambda group: (leaders[group], group))
    test_share = 0.0 if "test" in given else _share(TEST_SHARE, MOST_TEST_SHARE, TELLING, total)
    tests = 0 if "test" in given else max(1, round(test_share * len(order)))
    rest = total * (1 - test_share)
    validation_share = _share(VALIDATION_SHARE, MOST_VALIDATION_SHARE, MONITORABLE + 4, rest)  # each class's is rounded
    validations = 0 if "val" in given else max(1, round(validation_share * (len(order) - tests)))
    places = ["test"] * tests + ["val"] * validations + ["train"] * max(0, len(order) - tests - validations)
    split = _whole(order, places, leaders)
    return [split[group] for group in groups]


def _leaders(groups: Sequence[str], scenes: Sequence[str]) -> dict[str, str]:
    """The first digest of the scene of each; scenes that share an equal image are one."""
    found: dict[str, str] = {}

    def root(name: str) -> str:
        while found.setdefault(name, name) != name:
            found[name] = name = found[found[name]]
        return name

    for group, scene in zip(groups, scenes, strict=True):
        found[root(group)] = root(f"scene {scene}")
    first: dict[str, str] = {}
    for group in sorted(set(groups)):
        first.setdefault(root(group), group)
    return {group: first[root(group)] for group in groups}


def _whole(order: Sequence[str], places: Sequence[str], leaders: dict[str, str]) -> dict[str, str]:
    """A split for each digest, whose scene is in the split in which most of it was placed; each split keeps one scene."""
    votes: dict[str, Counter[str]] = {}
    for group, place in zip(order, places, strict=False):
        votes.setdefault(leaders[group], Counter())[place] += 1
    chosen = {scene: found.most_common(1)[0][0] for scene, found in votes.items()}
    for wanted in dict.fromkeys(places):
        if wanted not in chosen.values():
            spare = Counter(chosen.values())
            chosen[next(s for s, found in votes.items() if found[wanted] and spare[chosen[s]] > 1)] = wanted
    return {group: chosen[leaders[group]] for group in order}


def _share(usual: float, most: float, wanted: int, total: float) -> float:
    """The share of `total` images: the usual one, or what gives `wanted` images if that is not more than `most`."""
    needed = wanted / max(total, 1)
    return max(usual, needed) if needed <= most else usual


class Copies:
    """Copies of images in a new folder, byte for byte: written while the images are read once, then put into their places.

    They share their bytes with the images where the file system copies what is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting = folder / ".copied"
        self._waiting.mkdir(parents=True, exist_ok=True)
        self._reflinks = has_reflinks(self._waiting)
        self._numbers: dict[str, int] = {}
        self._next = itertools.count()  # threads ask for numbers at the same time

    def keep(self, path: str, content: bytes) -> None:
        """Copy the image at `path`, whose bytes these are. Raises OSError."""
        number = self._numbers.setdefault(path, next(self._next))
        copy_read_file(Path(path), content, self._waiting / str(number), self._reflinks)

    def put(self, source: Path, place: str) -> str:
        """Put the copy of an image to `place` (without suffix); returns the new path. Raises OSError if there is none."""
        name = f"{place}{source.suffix}"
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._waiting / str(self._numbers.get(str(source))), self.folder / name)
        return name

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the copies that have no place, and the folder if it is empty."""
        shutil.rmtree(self._waiting, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()


def unused_place(place: str, taken: set[str]) -> str:
    """`place`, or one with a number for which no other is `taken` whose name is the same on a disk that ignores case and the
    spelling of accents; it is then taken too."""
    numbers = (f"{place}-{number}" for number in itertools.count(2))
    found = next(each for each in itertools.chain([place], numbers) if composed(each).casefold() not in taken)
    taken.add(composed(found).casefold())
    return found


def entries(folder: Path) -> list[Path]:
    """The entries of a folder without hidden files and those of operating systems, sorted by name. Raises DataError if it
    cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not is_system(path))
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})", "Make it readable, or remove it") from error
