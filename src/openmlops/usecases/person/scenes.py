"""One scene: a background, people and distractors in depth order, and the boxes of the visible people.

A scene is rendered at twice its size and averaged, so edges are soft. All arithmetic is on integers, so the pixels are the
same on every machine. What is not here: how many scenes a data set has (sample.py).
"""

from dataclasses import dataclass

import numpy as np

from openmlops.usecases.drawing import Draw
from openmlops.usecases.person.clutter import CLUTTER
from openmlops.usecases.person.figures import figure
from openmlops.usecases.person.sprites import Colour, Sprite

SIZES = ((128, 160), (160, 128), (108, 144))
"""Height and width of the scenes in pixels: none is square, so that every one is letterboxed."""
PEOPLE = (0,) * 7 + (1,) * 34 + (2,) * 31 + (3,) * 18 + (4,) * 10
"""Numbers of people in a scene; each entry is equally likely."""
SKIES = ((126, 176, 222), (164, 200, 228), (190, 196, 204), (236, 200, 160), (222, 214, 196), (150, 160, 178), (206, 222, 226))
GROUNDS = ((98, 136, 74), (122, 150, 88), (112, 114, 118), (146, 146, 148), (190, 170, 132), (150, 120, 94), (84, 92, 100))
WALLS = ((176, 96, 78), (206, 184, 150), (150, 152, 158), (120, 134, 150), (226, 220, 206), (136, 112, 96), (186, 140, 100))
GLASS = ((60, 74, 92), (170, 196, 214), (236, 214, 150))
VISIBLE = 30
"""Percent of a person that must be visible; people below it are removed from the scene."""


@dataclass(frozen=True)
class _Thing:
    sprite: Sprite
    top: int
    left: int
    person: bool

    def window(self, height: int, width: int) -> tuple[slice, slice, slice, slice]:
        """Rows and columns of the scene that it covers, and those of the sprite that fall into the scene."""
        high, wide = self.sprite.parts.shape
        rows = slice(max(self.top, 0), min(max(self.top + high, 0), height))
        across = slice(max(self.left, 0), min(max(self.left + wide, 0), width))
        inner = slice(rows.start - self.top, max(rows.stop, rows.start) - self.top)
        return rows, across, inner, slice(across.start - self.left, max(across.stop, across.start) - self.left)


def scene(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """One image uint8 (height, width, 3) of one of SIZES, and the boxes of its people int64 (m, 4): x1, y1, x2, y2 in pixels.

    A box is the exact extent of the pixels at least half of which show the person; at least VISIBLE % of a person is visible.
    """
    height, width = draw.pick(SIZES)
    horizon = height * draw.number(22, 60) // 100
    ground = _background(draw, height, width, horizon)
    things = _seen(_things(draw, 2 * height, 2 * width), 2 * height, 2 * width)
    canvas = ground.repeat(2, axis=0).repeat(2, axis=1)
    for thing in things:
        _paste(canvas, thing)
    owners = _owners(things, 2 * height, 2 * width)
    people = [number for number, thing in enumerate(things) if thing.person]
    boxes = np.array([_box(owners == number) for number in people], dtype=np.int64).reshape(-1, 4)
    return _lit(draw, _fourfold(canvas)), boxes


def _things(draw: Draw, height: int, width: int) -> list[_Thing]:
    """People and clutter from the farthest to the nearest: the nearer, the larger and the lower in the picture."""
    kinds = [True] * draw.pick(PEOPLE) + [False] * draw.number(1, 5)
    things: list[tuple[int, _Thing]] = []
    people: list[int] = []
    for person in kinds:
        share = draw.number(44, 88)
        size = min(height * share // 100, width * 9 // 10)
        sole = height * (64 + (share - 44) * 34 // 44 + draw.number(-4 if person else -24, 5 if person else 2)) // 100
        sprite = figure(draw, size) if person else draw.pick(CLUTTER)(draw, size * draw.number(75, 126) // 100)
        centre = _centre(draw, width, people, size if person else 0)
        high, wide = sprite.parts.shape
        things.append((sole, _Thing(sprite, sole - high, centre - wide // 2, person)))
        people += [centre] if person else []
    return [thing for _, thing in sorted(things, key=lambda pair: pair[0])]


def _centre(draw: Draw, width: int, people: list[int], size: int) -> int:
    """A place across the scene: for one in four who have company beside it, else away from others; anywhere for clutter."""
    low, high = width // 12, width * 11 // 12
    if size and people and draw.chance(25):
        return min(max(people[-1] + draw.number(-size // 3, size // 3 + 1), low), high)
    places = [draw.number(low, high) for _ in range(3 if size else 1)]
    return max(places, key=lambda place: min((abs(place - other) for other in people), default=0))


def _owners(things: list[_Thing], height: int, width: int) -> np.ndarray:
    """int16 (height, width): the number of the thing that is seen at each place, -1 for the background."""
    owners = np.full((height, width), -1, dtype=np.int16)
    for number, thing in enumerate(things):
        rows, across, inner, inner_across = thing.window(height, width)
        owners[rows, across][thing.sprite.parts[inner, inner_across] > 0] = number
    return owners


def _seen(things: list[_Thing], height: int, width: int) -> list[_Thing]:
    """The objects without the people who are too little visible. Removing one never hides another."""
    visible = np.bincount(_owners(things, height, width).ravel() + 1, minlength=len(things) + 1)[1:]
    whole = [int(np.count_nonzero(thing.sprite.parts)) for thing in things]
    return [
        thing
        for thing, seen, full in zip(things, visible, whole, strict=True)
        if not thing.person or seen * 100 >= full * VISIBLE
    ]


def _paste(canvas: np.ndarray, thing: _Thing) -> None:
    """Paint the thing, its shadow on the ground first."""
    height, width = canvas.shape[:2]
    high, wide = thing.sprite.parts.shape
    shadow = Sprite(max(high // 12, 1), wide)
    shadow.disc((wide // 2, high // 24), wide // 3, max(high // 26, 1), (1, 1, 1))
    rows, across, inner, inner_across = _Thing(shadow, thing.top + high - high // 24, thing.left, False).window(height, width)
    dark = shadow.parts[inner, inner_across, None] > 0
    canvas[rows, across] -= np.where(dark, canvas[rows, across] * 3 // 10, 0)
    rows, across, inner, inner_across = thing.window(height, width)
    model_input = thing.sprite.parts[inner, inner_across, None] > 0
    np.copyto(canvas[rows, across], thing.sprite.colours()[inner, inner_across], where=model_input)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Of a mask at twice the size: the pixels at least two of whose four quarters are in it."""
    pixels = _fourfold(mask.view(np.uint8)) >= 2
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _fourfold(values: np.ndarray) -> np.ndarray:
    """(2h, 2w, ...) -> (h, w, ...): the sums of two by two."""
    rows = values[::2] + values[1::2]
    return rows[:, ::2] + rows[:, 1::2]


def _background(draw: Draw, height: int, width: int, horizon: int) -> np.ndarray:
    """int16 (height, width, 3): sky or wall above the horizon, houses or panels before it, ground below."""
    picture = np.empty((height, width, 3), dtype=np.int16)
    picture[:horizon] = _gradient(_near(draw, draw.pick(SKIES)), draw.integers(-30, 31, (3,)), horizon)
    picture[horizon:] = _gradient(_near(draw, draw.pick(GROUNDS)), draw.integers(-24, 25, (3,)), height - horizon)
    for _ in range(draw.number(0, 5)):
        _house(draw, picture, horizon)
    for _ in range(draw.number(0, 4)):
        top = draw.number(horizon, height)
        picture[top : top + draw.number(1, 5)] += np.int16(draw.number(-35, 36))
    grain = draw.integers(-8, 9, (height // 2, width // 2)).repeat(2, axis=0).repeat(2, axis=1)
    grain += draw.integers(-8, 9, (height, width))
    return picture + grain[..., None].astype(np.int16) * draw.number(0, 5) // 3


def _near(draw: Draw, colour: Colour) -> np.ndarray:
    """int64 (3,): the colour or one like it."""
    return np.array(colour) + draw.integers(-16, 17, (3,))


def _gradient(colour: np.ndarray, change: np.ndarray, rows: int) -> np.ndarray:
    """int64 (rows, 1, 3): `colour` at the top, `colour + change` at the bottom."""
    return (colour + change * np.arange(rows)[:, None] // max(rows, 1))[:, None]


def _house(draw: Draw, picture: np.ndarray, horizon: int) -> None:
    """A block with windows that ends at the horizon or a little below it."""
    width = picture.shape[1]
    left, wide = draw.number(-10, width - 10), draw.number(width // 8, width // 2)
    top, bottom = draw.number(horizon // 6, max(horizon, horizon // 6 + 1)), horizon + draw.number(0, 9)
    across = slice(max(left, 0), left + wide)
    picture[top:bottom, across] = _near(draw, draw.pick(WALLS))
    glass, pitch, gap = _near(draw, draw.pick(GLASS)), draw.number(7, 15), draw.number(3, 6)
    for row in range(top + 3, bottom - pitch, pitch):
        for column in range(max(left, 0) + 3, min(left + wide, width) - pitch, pitch):
            picture[row : row + pitch - gap, column : column + pitch - gap] = glass


def _lit(draw: Draw, fourfold: np.ndarray) -> np.ndarray:
    """Sums of four (height, width, 3) -> uint8, in brighter or darker light of some colour, with the camera's speckle."""
    gain = draw.number(72, 122) * draw.integers(92, 109, (3,)) // 100
    speckle = draw.integers(-6, 7, (*fourfold.shape[:2], 1)).astype(np.int32)
    return np.clip(fourfold * gain.astype(np.int32) // 400 + speckle, 0, 255).astype(np.uint8)
