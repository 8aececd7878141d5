"""Sprites from flat shapes with integer coordinates, to be pasted onto a scene.

All lengths are in half pixels; a scene is rendered at twice its size. What is not here: what the shapes depict (figures.py,
clutter.py) and where they are placed (scenes.py).
"""

from math import isqrt

import numpy as np

Colour = tuple[int, int, int]
Point = tuple[int, int]
"""(x, y)"""


class Sprite:
    """A map of colour indices, 0 for transparent; later shapes are painted over earlier ones."""

    def __init__(self, height: int, width: int) -> None:
        self.parts = np.zeros((height, width), dtype=np.uint8)
        self._colours: list[Colour] = [(0, 0, 0)]

    def colours(self) -> np.ndarray:
        """int16 (height, width, 3), lit from the left."""
        width = self.parts.shape[1]
        light = 14 - 28 * np.arange(width, dtype=np.int16) // max(width, 1)
        return np.array(self._colours, dtype=np.int16).take(self.parts, axis=0) + light[None, :, None]

    def disc(self, centre: Point, across: int, high: int, colour: Colour) -> None:
        """An ellipse of the radii `across` and `high`."""
        (x, y), top, left = centre, centre[1] - high, centre[0] - across
        down, right = self._steps(top, y + high + 1, 0) - y, self._steps(left, x + across + 1, 1) - x
        inside = (down * across)[:, None] ** 2 + (right * high)[None] ** 2 <= (across * high) ** 2
        self._paint(inside, top, left, colour)

    def limb(self, start: Point, end: Point, radius: int, colour: Colour) -> None:
        """A line of the half width `radius` with round ends."""
        (x0, y0), (x1, y1) = start, end
        top, left = min(y0, y1) - radius, min(x0, x1) - radius
        down = self._steps(top, max(y0, y1) + radius + 1, 0)[:, None] - y0
        right = self._steps(left, max(x0, x1) + radius + 1, 1)[None] - x0
        dx, dy = x1 - x0, y1 - y0
        along, aside = right * dx + down * dy, np.abs(right * dy - down * dx)
        inside = (aside <= radius * isqrt(dx**2 + dy**2)) & (along >= 0) & (along <= dx**2 + dy**2)
        inside |= right**2 + down**2 <= radius**2
        inside |= (right - dx) ** 2 + (down - dy) ** 2 <= radius**2
        self._paint(inside, top, left, colour)

    def polygon(self, corners: list[Point], colour: Colour, stripes: int = 0) -> None:
        """A convex polygon, corners clockwise on the screen; with `stripes` only every other band of that height."""
        top, left = min(y for _, y in corners), min(x for x, _ in corners)
        down = self._steps(top, max(y for _, y in corners) + 1, 0)[:, None]
        right = self._steps(left, max(x for x, _ in corners) + 1, 1)[None]
        inside = np.ones((down.shape[0], right.shape[1]), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            inside &= (x1 - x0) * (down - y0) - (y1 - y0) * (right - x0) >= 0
        if stripes:
            inside &= (down - top) // stripes % 2 == 1
        self._paint(inside, top, left, colour)

    def box(self, top_left: Point, bottom_right: Point, colour: Colour) -> None:
        """A rectangle, the last row and column left out."""
        (left, top), (right, bottom) = top_left, bottom_right
        shape = len(self._steps(top, bottom, 0)), len(self._steps(left, right, 1))
        self._paint(np.ones(shape, dtype=bool), top, left, colour)

    def _steps(self, low: int, high: int, axis: int) -> np.ndarray:
        """The rows or columns from `low` to `high` - 1 that the sprite has."""
        return np.arange(max(low, 0), max(min(high, self.parts.shape[axis]), max(low, 0)), dtype=np.int32)

    def _paint(self, inside: np.ndarray, top: int, left: int, colour: Colour) -> None:
        top, left = max(top, 0), max(left, 0)
        if colour not in self._colours:
            self._colours.append(colour)
        window = self.parts[top : top + inside.shape[0], left : left + inside.shape[1]]
        window[inside] = max(self._colours.index(colour), 1)


def shaded(colour: Colour, change: int) -> Colour:
    """The colour made lighter (or darker) by `change`."""
    red, green, blue = (min(max(value + change, 1), 255) for value in colour)
    return red, green, blue
