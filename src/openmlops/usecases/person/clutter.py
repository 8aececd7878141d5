"""Distractors in a scene: trees, lamps, signs, cars, bins and benches.

Some are as tall and narrow as people, or have round tops, so that shape alone does not identify a person. All lengths are in
half pixels; each object stands at the bottom of its sprite.
"""

from collections.abc import Callable

from openmlops.usecases.drawing import Draw
from openmlops.usecases.person.sprites import Colour, Sprite, shaded

LEAVES = ((44, 98, 44), (70, 120, 50), (96, 132, 60), (150, 110, 40), (52, 84, 70))
PAINT = ((190, 40, 40), (40, 80, 160), (220, 220, 220), (60, 62, 70), (210, 170, 60), (60, 130, 90), (150, 80, 140))
METAL = ((70, 74, 80), (110, 112, 116), (48, 60, 54), (150, 140, 120))
WOOD: tuple[Colour, ...] = ((96, 66, 42), (120, 86, 54), (74, 56, 44))


def tree(draw: Draw, height: int) -> Sprite:
    """A trunk, and a crown of several blobs or a pointed one."""
    width, leaf = height * 7 // 10, draw.pick(LEAVES)
    sprite, middle, trunk = Sprite(height, width), width // 2, max(height // draw.number(14, 22), 2)
    sprite.limb((middle, height), (middle, height // 2), trunk, draw.pick(WOOD))
    if draw.chance(35):
        for step in range(3):
            top, half = height * step // 5, width * (step + 2) // 10
            corners = [(middle, top), (middle + half, top + height // 3), (middle - half, top + height // 3)]
            sprite.polygon(corners, shaded(leaf, 8 * step - 12))
        return sprite
    for _ in range(draw.number(5, 9)):
        radius = width * draw.number(18, 28) // 100
        centre = (draw.number(radius, width - radius), draw.number(radius, max(height * 55 // 100, radius + 1)))
        sprite.disc(centre, radius, radius * draw.number(75, 101) // 100, shaded(leaf, draw.number(-22, 23)))
    return sprite


def lamp(draw: Draw, height: int) -> Sprite:
    """A pole with a round or bent lamp."""
    metal, width = draw.pick(METAL), height * 4 // 10
    sprite, middle, thick = Sprite(height, width), width // 2, max(height // 50, 1)
    sprite.limb((middle, height), (middle, height // 10), thick, metal)
    sprite.box((middle - 3 * thick, height * 94 // 100), (middle + 3 * thick, height), shaded(metal, -16))
    if draw.chance(50):
        radius = height * draw.number(5, 9) // 100
        sprite.disc((middle, radius), radius, radius, (250, 240, 200))
    else:
        sprite.limb((middle, height // 10), (width - 4 * thick, height // 14), thick, metal)
        sprite.disc((width - 4 * thick, height // 12), 3 * thick, 2 * thick, (250, 240, 200))
    return sprite


def sign(draw: Draw, height: int) -> Sprite:
    """A pole with a disc, a triangle or a board on it."""
    width = height * 6 // 10
    sprite, middle, colour = Sprite(height, width), width // 2, draw.pick(PAINT)
    radius = height * draw.number(13, 22) // 100
    sprite.limb((middle, height), (middle, radius), max(height // 45, 1), draw.pick(METAL))
    kind = draw.number(0, 3)
    if kind == 0:
        sprite.disc((middle, radius), radius, radius, colour)
        sprite.disc((middle, radius), radius * 2 // 3, radius * 2 // 3, (240, 240, 240))
    elif kind == 1:
        sprite.polygon([(middle, 0), (middle + radius, 2 * radius), (middle - radius, 2 * radius)], colour)
    else:
        sprite.box((middle - radius * 5 // 4, 0), (middle + radius * 5 // 4, radius * 3 // 2), colour)
        sprite.box((middle - radius, radius // 2), (middle + radius, radius * 3 // 4), (235, 235, 225))
    return sprite


def car(draw: Draw, height: int) -> Sprite:
    """A car or a van from the side."""
    height = height * 45 // 100
    width, paint = height * draw.number(19, 25) // 10, draw.pick(PAINT)
    sprite, wheel = Sprite(height, width), height // 5
    roof = width * draw.number(8, 26) // 100
    body, glass = height * 48 // 100, (150, 180, 196)
    sprite.polygon([(roof, 0), (width * 7 // 10, 0), (width * 86 // 100, body), (width * 6 // 100, body)], paint)
    for left, right in ((roof + width // 20, width * 42 // 100), (width * 47 // 100, width * 70 // 100)):
        sprite.box((left, height // 10), (right, body - height // 20), glass)
    sprite.limb((wheel, height * 64 // 100), (width - wheel, height * 64 // 100), wheel * 9 // 10, shaded(paint, -14))
    for middle in (width * 22 // 100, width * 78 // 100):
        sprite.disc((middle, height - wheel), wheel, wheel, (28, 28, 30))
        sprite.disc((middle, height - wheel), wheel // 2, wheel // 2, (150, 150, 155))
    return sprite


def bin_(draw: Draw, height: int) -> Sprite:
    """A bin or a post box: about as wide as a torso."""
    height = height * draw.number(40, 70) // 100
    width, paint = height * draw.number(45, 75) // 100, draw.pick(PAINT)
    sprite = Sprite(height, width)
    edge = width // 8
    sprite.polygon([(0, height // 8), (width - 1, height // 8), (width - edge, height - 1), (edge, height - 1)], paint)
    sprite.limb((edge, height // 9), (width - edge, height // 9), max(height // 12, 1), shaded(paint, -30))
    if draw.chance(50):
        sprite.box((width // 4, height // 3), (width * 3 // 4, height // 2), shaded(paint, 40))
    return sprite


def bench(draw: Draw, height: int) -> Sprite:
    """A bench of planks on two legs."""
    height = height * 38 // 100
    width, wood, bar = height * 2, draw.pick(WOOD), max(height // 9, 1)
    sprite = Sprite(height, width)
    for middle in (width // 6, width * 5 // 6):
        sprite.limb((middle, height // 4), (middle, height), max(bar * 2 // 3, 1), draw.pick(METAL))
    for level in (12, 34, 60):
        sprite.limb((bar, height * level // 100), (width - bar, height * level // 100), bar, shaded(wood, level - 30))
    return sprite


def bush(draw: Draw, height: int) -> Sprite:
    """A low heap of leaves."""
    height = height * draw.number(28, 48) // 100
    width, leaf = height * draw.number(12, 22) // 10, draw.pick(LEAVES)
    sprite = Sprite(height, width)
    for _ in range(draw.number(6, 11)):
        radius = height * draw.number(24, 44) // 100
        centre = (draw.number(radius, max(width - radius, radius + 1)), height - draw.number(radius // 3, radius + 1))
        sprite.disc(centre, radius, radius, shaded(leaf, draw.number(-20, 21)))
    return sprite


CLUTTER: tuple[Callable[[Draw, int], Sprite], ...] = (tree, tree, lamp, sign, car, bin_, bench, bush)
