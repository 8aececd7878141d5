"""Parsing of a label file: `class cx cy w h` per line, relative to the image's size -> boxes in pixels, and problems.

What is not here: which image it belongs to (folder.py).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openmlops.core.types import Problem
from openmlops.core.validation import problem

MAX_BOXES = 1000
"""Most boxes in one image; more indicate an error or another kind of data."""
TOLERANCE = 1e-3
"""Share of the image's side by which a box may exceed the image, because annotations are rounded. Boxes are clipped on read."""
MAX_BYTES = 2**18

_FIELDS = 5


def parse(path: Path, where: str, classes: int, size: tuple[int, int]) -> tuple[np.ndarray, list[Problem]]:
    """Boxes float32 (m, 5), x1, y1, x2, y2 in pixels of an image of `size` (height, width) and class, with the problems.

    A missing file means no boxes. Repeated lines and invalid lines are skipped. Problems count lines from 1.
    """
    text, problems = _text(path, where)
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines) > MAX_BOXES:
        return _boxes([], size), [*problems, problem(f"the file has more than {MAX_BOXES} boxes", where)]
    wrong: dict[str, list[int]] = {}
    right: dict[tuple[float, ...], int] = {}
    repeats = []
    for number, words in lines:
        values, reason = _numbers(words, classes)
        if reason:
            wrong.setdefault(reason, []).append(number)
        elif values in right:
            repeats.append(number)
        else:
            right[values] = number
    problems += [problem(reason, where, numbers) for reason, numbers in wrong.items()]
    if repeats:
        problems.append(problem("lines are duplicates and are skipped", where, repeats, blocking=False))
    return _boxes(list(right), size), problems


def _text(path: Path, where: str) -> tuple[str, list[Problem]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return "", [problem(f"the file has more than {MAX_BYTES} bytes", where)]
        return path.read_text("utf-8-sig"), []
    except FileNotFoundError:
        return "", []
    except OSError as error:
        return "", [problem(f"the file cannot be read ({error.strerror})", where)]
    except UnicodeDecodeError:
        return "", [problem("the file is not UTF-8 text", where)]


def _numbers(words: Sequence[str], classes: int) -> tuple[tuple[float, ...], str]:
    """(class, cx, cy, w, h), and the problem; empty if it is valid."""
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        return (), "a line is not five numbers: class, centre x, centre y, width, height"
    if len(values) > _FIELDS:
        return (), f"a line has {len(values)} numbers: polygons and keypoints are not supported; use their bounding boxes"
    if len(values) < _FIELDS or not all(map(math.isfinite, values)):
        return (), "a line is not five numbers: class, centre x, centre y, width, height"
    label, centre_x, centre_y, width, height = values
    if not label.is_integer() or not 0 <= label < classes:
        return (), f"the class {words[0][:20]} is not one of 0..{classes - 1}"
    if width <= 0 or height <= 0:
        return (), "a box has no area"
    sides = [centre - half for centre, half in ((centre_x, width / 2), (centre_y, height / 2))]
    ends = [centre + half for centre, half in ((centre_x, width / 2), (centre_y, height / 2))]
    if min(sides) < -TOLERANCE or max(ends) > 1 + TOLERANCE:
        return (), "a box is outside the image; use coordinates relative to its width and height, not pixels"
    if min(ends) <= 0 or max(sides) >= 1:
        return (), "a box has no area"
    return values, ""


def _boxes(values: list[tuple[float, ...]], size: tuple[int, int]) -> np.ndarray:
    """Relative (class, cx, cy, w, h) -> float32 (m, 5) in pixels, clipped to the image."""
    label, centre_x, centre_y, width, height = np.array(values, dtype=np.float64).reshape(-1, _FIELDS).T
    high, wide = size
    across = [np.clip(centre_x + side * width / 2, 0, 1) * wide for side in (-1, 1)]
    down = [np.clip(centre_y + side * height / 2, 0, 1) * high for side in (-1, 1)]
    return np.column_stack([across[0], down[0], across[1], down[1], label]).astype(np.float32)
