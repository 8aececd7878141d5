"""Parsing of a label file: `class cx cy w h` per line, relative to the image's size -> boxes in pixels, and problems.

A polygon (`class x1 y1 x2 y2 x3 y3 ...`) is read as the box around it. A sixth column, such as a confidence, and what follows
a `#` are ignored.
What is not here: which image it belongs to (folder.py).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from openmlops.core.types import Problem
from openmlops.core.validation import problem
from openmlops.usecases.yolo_folder.config import read_text

MAX_BOXES = 1000
"""Most boxes in one image; more indicate an error or another kind of data."""
TOLERANCE, ROUNDING = 1e-2, 1e-3
"""Share of the image's side by which a box may exceed the image, and by which it may without a note, because annotations are
rounded. Boxes are clipped on read."""
MAX_BYTES = 2**22
POLYGON = "polygons are read as the boxes around them"
CONFIDENCE = "a sixth column is ignored"
OVER = f"boxes reach over the edge of the image by up to {TOLERANCE:.0%} and are cut"

_FIELDS = 5
_NOT_FIVE = "a line is not five numbers: class, centre x, centre y, width, height"


def parse(path: Path, where: str, classes: int, size: tuple[int, int]) -> tuple[np.ndarray, list[Problem]]:
    """Boxes float32 (m, 5), x1, y1, x2, y2 in pixels of an image of `size` (height, width) and class, with the problems.

    A missing file means no boxes. Repeated lines and invalid lines are skipped. Problems count lines from 1.
    """
    text, problems = _text(path, where)
    lines = _lines(text)
    if len(lines) > MAX_BOXES:
        return _boxes([], size), [*problems, problem(f"the file has more than {MAX_BOXES} boxes", where)]
    wrong: dict[str, list[int]] = {}
    noted: dict[str, list[int]] = {}
    right: dict[tuple[float, ...], int] = {}
    repeats = []
    for number, words in lines:
        values, reason, note = _numbers(words, classes)
        if note:
            noted.setdefault(note, []).append(number)
        if reason:
            wrong.setdefault(reason, []).append(number)
        elif values in right:
            repeats.append(number)
        else:
            right[values] = number
    problems += [problem(reason, where, numbers) for reason, numbers in wrong.items()]
    problems += [problem(note, where, numbers, blocking=False, altered=True) for note, numbers in noted.items()]
    if repeats:
        problems.append(problem("lines are duplicates and are skipped", where, repeats, blocking=False))
    return _boxes(list(right), size), problems


def bad_lines(text: str, classes: int) -> dict[int, str]:
    """The lines that are no boxes, counted from 1, each with the reason."""
    read = ((number, _numbers(words, classes)[1]) for number, words in _lines(text))
    return {number: reason for number, reason in read if reason}


def without(text: str, bad: Mapping[int, str]) -> str:
    """The text with these lines made comments that give the reason, so that nothing is lost."""
    lines = text.splitlines()
    for number, reason in bad.items():
        lines[number - 1] = f"# left out, because {reason}: {lines[number - 1].strip()}"
    return "".join(f"{line}\n" for line in lines)


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """The words of each line that is neither empty nor a comment, with its number from 1."""
    split = ((number, line.partition("#")[0].split()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, words) for number, words in split if words]


def _text(path: Path, where: str) -> tuple[str, list[Problem]]:
    try:
        text, wrong = read_text(path, MAX_BYTES)
    except FileNotFoundError:
        return "", []
    return text, [problem(wrong, where)] if wrong else []


def _numbers(words: Sequence[str], classes: int) -> tuple[tuple[float, ...], str, str]:
    """(class, cx, cy, w, h), what is wrong, and what is not as written; the last two are empty if there is nothing."""
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        return (), _NOT_FIVE, ""
    if len(values) < _FIELDS or not all(map(math.isfinite, values)):
        return (), _NOT_FIVE, ""
    label, *rest = values
    if len(values) > _FIELDS + 1:
        if len(rest) % 2:
            return (), f"a line has {len(values)} numbers, neither a box nor a polygon; keypoints are not supported", ""
        rest, note = _around(rest), POLYGON
    else:
        rest, note = rest[:4], CONFIDENCE if len(values) > _FIELDS else ""
    if not label.is_integer() or not 0 <= label < classes:
        return (), f"the class {words[0][:20]} is not one of 0..{classes - 1}", ""
    centre_x, centre_y, width, height = rest
    if width <= 0 or height <= 0:
        return (), "a box has no area", ""
    sides = [centre - half for centre, half in ((centre_x, width / 2), (centre_y, height / 2))]
    ends = [centre + half for centre, half in ((centre_x, width / 2), (centre_y, height / 2))]
    over = max(-min(sides), max(ends) - 1)
    if over > TOLERANCE:
        return (), "a box is outside the image; use coordinates relative to its width and height, not pixels", ""
    if min(ends) <= 0 or max(sides) >= 1:
        return (), "a box has no area", ""
    return (label, *rest), "", note or (OVER if over > ROUNDING else "")


def _around(points: Sequence[float]) -> list[float]:
    """x1, y1, x2, y2, ... -> centre and size of the box around the points."""
    across, down = points[::2], points[1::2]
    left, right, top, bottom = min(across), max(across), min(down), max(down)
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _boxes(values: list[tuple[float, ...]], size: tuple[int, int]) -> np.ndarray:
    """Relative (class, cx, cy, w, h) -> float32 (m, 5) in pixels, clipped to the image."""
    label, centre_x, centre_y, width, height = np.array(values, dtype=np.float64).reshape(-1, _FIELDS).T
    high, wide = size
    across = [np.clip(centre_x + side * width / 2, 0, 1) * wide for side in (-1, 1)]
    down = [np.clip(centre_y + side * height / 2, 0, 1) * high for side in (-1, 1)]
    return np.column_stack([across[0], down[0], across[1], down[1], label]).astype(np.float32)
