"""Parsing of a label file: `class cx cy w h` per line, relative to the image's size -> boxes in pixels, and problems.

A polygon (`class x1 y1 x2 y2 x3 y3 ...`) is read as the box around it. A sixth column, such as a confidence, and what follows
a `#` are ignored.
What is not here: which image it belongs to (folder.py).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
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
OUTSIDE = "a box is outside the image; use coordinates relative to its width and height, not pixels"

_Side = tuple[tuple[float, float], tuple[float, float]]
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


def have_keypoints(texts: Iterable[str]) -> bool:
    """Whether the lines that are read as polygons are boxes with keypoints, as pose labels have them: `class cx cy w h`, then
    x, y or x, y, visibility of each point.

    One line does not tell: the first points of a small polygon may be a box that holds the others. All lines of a data set of
    poses have as many numbers, and a box around the points; and many of them are no outline: read as a point, the size of the
    box lies far from the others, or the lines from point to point cross each other.
    """
    rows = [row[1:] for text in texts for _, words in _lines(text) if len(row := _floats(words)) > _FIELDS + 1]
    if not rows or len({len(row) for row in rows}) > 1:
        return False
    return all(map(_visible, rows)) or (
        all(map(_flat, rows)) and sum(_far(row) or _crosses(row) for row in rows) > len(rows) / 4
    )


def _visible(row: Sequence[float]) -> bool:
    """Whether it is a box with points x, y, visibility."""
    marks = row[6::3]
    points = [(x, y) for x, y, mark in zip(row[4::3], row[5::3], marks, strict=False) if mark]
    return (len(row) - 4) % 3 == 0 and set(marks) <= {0, 1, 2} and _holds(row, points)


def _flat(row: Sequence[float]) -> bool:
    """Whether it is a box with points x, y."""
    return len(row) % 2 == 0 and _holds(row, _seen(row))


def _seen(row: Sequence[float]) -> list[tuple[float, float]]:
    """The points after a box; those that were not seen are 0, 0."""
    return [point for point in zip(row[4::2], row[5::2], strict=True) if any(point)]


def _holds(row: Sequence[float], points: Sequence[tuple[float, float]]) -> bool:
    """Whether the row begins with a box inside the image that holds all points."""
    centre_x, centre_y, width, height = row[:4]
    left, top, right, bottom = _sides(centre_x, centre_y, width, height)
    edge = -TOLERANCE, 1 + TOLERANCE
    inside = min(width, height) > 0 and min(left, top) >= edge[0] and max(right, bottom) <= edge[1]
    more = TOLERANCE
    return inside and all(left - more <= x <= right + more and top - more <= y <= bottom + more for x, y in points)


def _far(row: Sequence[float]) -> bool:
    """Whether width and height, read as a point, lie far from the other points, by the size of all these."""
    across, down = zip((row[0], row[1]), *_seen(row), strict=True)
    size = max(max(across) - min(across), max(down) - min(down))
    x, y = row[2:4]
    return not (min(across) - size <= x <= max(across) + size and min(down) - size <= y <= max(down) + size)


def _crosses(row: Sequence[float]) -> bool:
    """Whether two sides of the polygon cross each other."""
    points = list(zip(row[::2], row[1::2], strict=True))
    sides = list(zip(points, (*points[1:], points[0]), strict=True))
    return any(_cross(first, second) for number, first in enumerate(sides) for second in sides[number + 2 :])


def _cross(first: _Side, second: _Side) -> bool:
    """Whether each side has the ends of the other one on different sides of it."""

    def turns(side: _Side, point: tuple[float, float]) -> float:
        (x1, y1), (x2, y2) = side
        return (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)

    return all(turns(one, other[0]) * turns(one, other[1]) < 0 for one, other in ((first, second), (second, first)))


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
    values = _floats(words)
    if len(values) < _FIELDS:
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
    left, top, right, bottom = _sides(centre_x, centre_y, width, height)
    over = max(-min(left, top), max(right, bottom) - 1)
    if over > TOLERANCE:
        return (), OUTSIDE, ""
    if min(right, bottom) <= 0 or max(left, top) >= 1:
        return (), "a box has no area", ""
    return (label, *rest), "", note or (OVER if over > ROUNDING else "")


def _floats(words: Sequence[str]) -> tuple[float, ...]:
    """The words as numbers; empty if one is no finite number in plain digits: Python reads `1_0` and digits of any script."""
    if not all(word.isascii() and "_" not in word for word in words):
        return ()
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def _sides(centre_x: float, centre_y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box."""
    return centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2


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
