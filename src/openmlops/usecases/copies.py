"""Checks for leakage between splits: images in two splits, repeats in one, and test images that look like training images.

What is not here: removing them (splitting.py), and arrays without file names (core/validation.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmlops.core.types import Problem
from openmlops.core.validation import listed, near_hashes
from openmlops.images.index import ImageIndex
from openmlops.usecases.leftovers import Beside, left_out, no_others, with_beside

_ORDER = ("test", "val", "train")


@dataclass(frozen=True, eq=False)
class Seen:
    """One image of a data set with its path in the folder, and the hashes of its content."""

    path: str
    split: str
    digest: bytes
    hash: np.uint64

    @classmethod
    def of(cls, path: str, split: str, index: ImageIndex) -> "Seen":
        """The image of this path."""
        return cls(path, split, index.digest(path), index.columns["hash"][index.row(path)])


def check_copies(images: Sequence[Seen], beside: Beside = no_others) -> list[Problem]:
    """Find images that are, pixel by pixel, in a later split too (train, val, test), and are left out of the earlier one.

    Repeats in a split and near duplicates across splits are warnings. `beside`: files that go with an image.
    """
    ordered = sorted(images, key=lambda image: _ORDER.index(image.split))
    first: dict[bytes, Seen] = {}
    copies: dict[tuple[str, str], list[tuple[Seen, Seen]]] = {}
    for image in ordered:
        other = first.setdefault(image.digest, image)
        if other is not image:
            copies.setdefault((image.split, other.split), []).append((image, other))
    found = [_copies(where, split, pairs, beside) for (where, split), pairs in copies.items()]
    near = _near_train(images, set(first.values()))
    return found + (
        [listed("images are near-duplicates of train images (perceptual hash)", "test", near, False)] if near else []
    )


def _copies(where: str, split: str, pairs: list[tuple[Seen, Seen]], beside: Beside) -> Problem:
    """The problem of images in `where` that are in `split` too."""
    examples = [f"{image.path} is {other.path}" for image, other in pairs]
    if where == split:
        return listed("images are duplicates", where, examples, blocking=False)
    files = with_beside([image.path for image, _ in pairs], beside)
    return left_out(f"images are also in {split}", where, files, examples)


def _near_train(images: Sequence[Seen], unique: set[Seen]) -> list[str]:
    """Paths of the test images that look like training images, exact copies left out."""
    train, test = ([image for image in images if image.split == split and image in unique] for split in ("train", "test"))
    near = near_hashes(*(np.array([image.hash for image in images], np.uint64) for images in (test, train)))
    return [image.path for image, is_near in zip(test, near, strict=True) if is_near]
