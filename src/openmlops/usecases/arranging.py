"""Folders of images as people have them -> folders as a use case keeps them: splits found or drawn, images as PNG or JPEG.

What is here: what classifiers and detectors have in common. What is not: which files are images of what
(`image_folder.arrange`, `yolo_folder.arrange`), and the checks of what comes out (each one's `data`).
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openmlops.core.images.decoding import as_png
from openmlops.core.types import Problem
from openmlops.files import write_bytes

SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEST_SHARE = 0.2
"""Share of the images that is drawn to test with, where no test split is given."""
VALIDATION_SHARE, MOST_VALIDATION_SHARE = 0.2, 0.45
"""Share of the rest that is drawn for validation, where none is given; and the largest, where it takes that for MONITORABLE."""
MONITORABLE = 100
"""Validation images that windows of traffic can be judged against: two of the smallest windows (core.monitoring)."""
ENOUGH = 300
"""Images from which on the draw gives MONITORABLE validation images."""

_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Arranged:
    """What a folder was arranged into: class names, where each file came from by its new path, and what is wrong with it."""

    names: tuple[str, ...]
    sources: dict[str, Path]
    problems: tuple[Problem, ...]
    side: int = 0
    """of the squares that suit a classifier, in pixels"""

    def told(self, problem: Problem) -> Problem:
        """A problem of the new files in the names of the old ones."""
        words = re.split(r"(\s|; )", problem.what)
        what = "".join(self._source(word) for word in words)
        return problem.model_copy(update={"where": self._source(problem.where), "what": what})

    def _source(self, name: str) -> str:
        return str(self.sources[name]) if name in self.sources else name


def split_name(folder: str) -> str | None:
    """`valid` or `val2017` -> `val`; None for a folder that is no split."""
    return _SPLIT_NAMES.get(re.sub(r"\d*$", "", folder.lower()))


def drawn(groups: Sequence[str], given: set[str], total: int) -> list[str]:
    """A split for each of n images that have none yet: the digests `groups` are split alike, their order is the draw.

    Only splits that are not `given` are drawn. `total` counts the images of all classes that are drawn from.
    """
    order = sorted(set(groups))
    tests = 0 if "test" in given else max(1, round(TEST_SHARE * len(order)))
    rest = len(order) - tests
    validations = 0 if "val" in given else max(1, round(_validation_share(total, "test" in given) * rest))
    split = dict.fromkeys(order, "train") | dict.fromkeys(order[:tests], "test")
    split |= dict.fromkeys(order[tests : tests + validations], "val")
    return [split[group] for group in groups]


def _validation_share(total: int, test_is_given: bool) -> float:
    rest = total if test_is_given else total * (1 - TEST_SHARE)
    needed = (MONITORABLE + 4) / max(rest, 1)  # four more, because the share of each class is rounded
    return max(VALIDATION_SHARE, needed) if needed <= MOST_VALIDATION_SHARE else VALIDATION_SHARE


def put(source: Path, folder: Path, place: str) -> str:
    """Copy an image to `place` (without suffix) in `folder`, byte for byte; a WebP or BMP becomes a PNG. Its new path.

    Raises DataError for what is no image, OSError for what cannot be read.
    """
    converted = as_png(source.read_bytes())
    kept = source.suffix.lower() in (".png", ".jpg", ".jpeg")
    name = f"{place}{source.suffix}" if converted is None and kept else f"{place}.png"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if converted is None:
        shutil.copyfile(source, folder / name)
    else:
        write_bytes(folder / name, converted)
    return name


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, hidden files left out, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file()
