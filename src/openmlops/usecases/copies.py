"""Checks for leakage between splits: images in two splits, repeats in one, and test images that look like training images.

What is not here: removing them (splitting.py), and arrays without file names (core/validation.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openmlops.core.images.boxes import objects
from openmlops.core.types import Problem
from openmlops.core.validation import content_hashes, listed, near_duplicates


@dataclass(frozen=True, eq=False)
class Seen:
    """One image of a data set with its path in the folder."""

    path: str
    split: str
    pixels: np.ndarray


def check_copies(images: Sequence[Seen]) -> list[Problem]:
    """Find images of one split that are, pixel by pixel, in another. Repeats and near duplicates are warnings."""
    first: dict[bytes, Seen] = {}
    copies: dict[tuple[str, str], list[str]] = {}
    for image, digest in zip(images, content_hashes(objects([image.pixels for image in images])), strict=True):
        other = first.setdefault(digest, image)
        if other is not image:
            copies.setdefault((image.split, other.split), []).append(f"{image.path} is {other.path}")
    found = []
    for (where, other_split), pairs in copies.items():
        within = where == other_split
        found.append(
            listed("images are duplicates" if within else f"images are also in {other_split}", where, pairs, not within)
        )
    near = _near_train(images, set(first.values()))
    return found + (
        [listed("images are near-duplicates of train images (perceptual hash)", "test", near, False)] if near else []
    )


def _near_train(images: Sequence[Seen], unique: set[Seen]) -> list[str]:
    """Paths of the test images that look like training images, exact copies left out."""
    train, test = ([image for image in images if image.split == split and image in unique] for split in ("train", "test"))
    if not train or not test:
        return []
    near = near_duplicates(objects([image.pixels for image in test]), objects([image.pixels for image in train]))
    return [image.path for image, is_near in zip(test, near, strict=True) if is_near]
