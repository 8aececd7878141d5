"""Which images of a folder belong together: frames of one scene or burst, which must be in one split.

A frame in training answers for its siblings in the test split. What is here: scenes from folders, names or times. What is not:
drawing the splits (arranging.py).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from openmlops.core.types import Problem
from openmlops.core.validation import problem
from openmlops.errors import DataError

GroupBy = Literal["auto", "folder", "name-pattern", "time"]
WAYS: tuple[GroupBy, ...] = get_args(GroupBy)
GAP_SECONDS = 60
"""images that were taken further apart are of different scenes"""
LEAST_SCENES, LARGEST_SHARE = 10, 0.2
"""names tell scenes if they tell at least so many, the largest with at most this share of the images"""
LEAST_FRAMES = 2.0
"""mean number of images of a scene, below which names are just names"""

_COUNTER = re.compile(r"[-_. ]?(?:f|frame|img|image)?[-_. ]?\d+$", re.IGNORECASE)
_TIMES = ((0x8769, 36867), (0x8769, 36868), (None, 306))
"""EXIF: where and under which number the time of a photograph is"""


def scenes(sources: Sequence[Path], by: GroupBy = "auto") -> list[str] | None:
    """The scene of each image; None if each is its own.

    `folder`: the folder that an image is in. `name-pattern`: its name without the number at the end, as `door_017` and
    `s3_frame12` have one. `time`: images of a folder that were taken within GAP_SECONDS of the one before, by EXIF. `auto`: the
    folder and name pattern, if they tell many small scenes. Raises DataError if `by` tells no scenes, or has nothing to go by.
    """
    if by == "time":
        return _by_time(sources)
    found = [str(path.parent) if by == "folder" else str(path.parent / _COUNTER.sub("", path.stem)) for path in sources]
    counts = Counter(found)
    if by != "auto":
        if len(counts) < LEAST_SCENES:
            problem = f"--group-by {by} tells only {len(counts)} scenes of {len(found)} images, too few to draw splits from"
            raise DataError(problem, f"At least {LEAST_SCENES} are required; group by something else, or leave --group-by out")
        return found
    is_telling = len(counts) >= LEAST_SCENES and len(found) >= LEAST_FRAMES * len(counts)
    return found if is_telling and max(counts.values()) <= LARGEST_SHARE * len(found) else None


def scenes_of(sources: Sequence[Path], given: Set[str | None], by: GroupBy) -> dict[Path, str]:
    """The scene of each image whose split is to be drawn; empty if each is its own, or the folder has all splits itself."""
    found = None if {"test", "val"} <= given else scenes(sources, by)
    return {} if found is None else dict(zip(sources, found, strict=True))


def together(of: Mapping[Path, str], folder: Path) -> list[Problem]:
    """What is said of scenes that are kept together."""
    if not of:
        return []
    said = f"{len(of)} images are of {len(set(of.values()))} scenes, each kept in one split (--group-by tells which)"
    return [problem(said, str(folder), blocking=False)]


def _by_time(sources: Sequence[Path]) -> list[str]:
    taken = [_taken(path) for path in sources]
    if missing := [path for path, at in zip(sources, taken, strict=True) if at is None]:
        problem = f"{missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''} does not say when it was taken"
        raise DataError(problem, "Group by folder or name-pattern; EXIF has no time of these images")
    order = sorted(range(len(sources)), key=lambda row: (str(sources[row].parent), taken[row]))
    found, scene = [""] * len(sources), 0
    for before, row in zip([None, *order], order, strict=False):
        if before is not None:
            is_other = sources[before].parent != sources[row].parent
            scene += is_other or (taken[row] - taken[before]).total_seconds() > GAP_SECONDS  # type: ignore[operator]
        found[row] = str(scene)
    return found


def _taken(path: Path) -> datetime | None:
    """When a photograph was taken, in its own time zone."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
    except (OSError, ValueError, SyntaxError):
        return None
    for place, tag in _TIMES:
        text = (exif if place is None else exif.get_ifd(place)).get(tag)
        try:
            return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
    return None
