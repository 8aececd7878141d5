"""One generated person: head with hair, torso, arms and legs, in varied clothes, builds and poses.

Body coordinates are thousandths of its height, x from the middle, y from the top of the head down to the soles. What is not
here: the shapes (sprites.py) and the scene (scenes.py).
"""

from dataclasses import dataclass

from openmlops.usecases.drawing import Draw
from openmlops.usecases.person.sprites import Colour, Point, Sprite, shaded

SKIN = ((255, 219, 190), (240, 190, 152), (214, 158, 116), (174, 120, 82), (126, 84, 58), (92, 62, 46))
HAIR = ((28, 22, 20), (58, 38, 26), (104, 66, 34), (176, 130, 62), (222, 190, 120), (150, 150, 150), (140, 54, 30))
CLOTH = (
    (196, 42, 44),
    (228, 120, 40),
    (240, 200, 70),
    (60, 140, 74),
    (40, 150, 160),
    (44, 84, 176),
    (96, 60, 150),
    (214, 110, 160),
    (240, 240, 236),
    (40, 42, 50),
    (120, 124, 130),
    (150, 104, 66),
)
TROUSERS = ((36, 44, 78), (58, 78, 124), (34, 34, 38), (98, 84, 64), (150, 140, 118), (70, 76, 70), (120, 36, 40))
ARMS = {
    "down": ((135, 350), (150, 500)),
    "out": ((190, 330), (250, 440)),
    "hip": ((215, 350), (110, 470)),
    "front": ((150, 340), (30, 400)),
    "up": ((200, 160), (215, 10)),
    "wave": ((215, 250), (250, 90)),
}
"""Elbow and hand of an arm on the right side."""
_HALF, _TOP = 390, 30  # half the width of a sprite, and the room above the head, in thousandths of the height


@dataclass(frozen=True)
class Body:
    """A sprite to paint on, and the proportions of the person."""

    sprite: Sprite
    height: int
    """half pixels from head to sole"""
    build: int
    """width in percent of the standard"""
    lean: int
    """offset of the head to the right of the feet, in thousandths"""

    def at(self, x: int, y: int) -> Point:
        """Body coordinates -> position on the sprite."""
        x = x * self.build // 100 + self.lean * (1000 - y) // 1000
        return (x + _HALF) * self.height // 1000, (y + _TOP) * self.height // 1000

    def long(self, thousandths: int) -> int:
        """A length in half pixels, at least one."""
        return max(thousandths * self.height // 1000, 1)


def figure(draw: Draw, height: int) -> Sprite:
    """A person of `height` half pixels; its soles are at the bottom of the sprite, its middle in the middle."""
    sprite = Sprite(height * (1020 + _TOP) // 1000, height * 2 * _HALF // 1000)
    body = Body(sprite, height, draw.number(88, 122), draw.number(-40, 41))
    skin, top, trousers = draw.pick(SKIN), draw.pick(CLOTH), draw.pick(TROUSERS)
    arms = [draw.pick(("down", "down", "down", "out", "hip", "front", "up", "wave")) for _ in range(2)]
    long_sleeves = draw.chance(60)
    _legs(body, draw, trousers if draw.chance(80) else skin)
    _torso(body, draw, top, trousers)
    for side, pose in zip((-1, 1), arms, strict=True):
        _arm(body, side, pose, shaded(top, -14), shaded(top, -14) if long_sleeves else skin, skin)
    _head(body, draw, skin)
    if arms[1] in ("down", "out") and draw.chance(40):
        _bag(body, draw, arms[1])
    return sprite


def _legs(body: Body, draw: Draw, colour: Colour) -> None:
    """Standing, or walking with the feet apart; the leg behind is darker."""
    stride = draw.number(20, 70) if draw.chance(50) else draw.number(90, 190)
    bend = draw.number(0, 50)
    shoe = draw.pick(((30, 28, 30), (90, 56, 34), (236, 236, 236), (170, 40, 40)))
    first = draw.pick((-1, 1))
    for side, tone in ((first, shaded(colour, -22)), (-first, colour)):
        hip, foot = body.at(38 * side, 540), body.at((38 + stride) * side, 950)
        knee = body.at((38 + stride // 2) * side + bend, 745)
        body.sprite.limb(hip, knee, body.long(52), tone)
        body.sprite.limb(knee, foot, body.long(40), tone)
        toe = body.at((38 + stride) * side + 28, 972)
        body.sprite.disc(toe, body.long(58), body.long(30), shoe)


def _torso(body: Body, draw: Draw, top: Colour, trousers: Colour) -> None:
    shoulder, hip = draw.number(95, 118), draw.number(78, 98)
    corners = [body.at(x, y) for x, y in ((-shoulder, 185), (shoulder, 185), (hip, 560), (-hip, 560))]
    body.sprite.limb(body.at(0, 130), body.at(0, 190), body.long(34), shaded(top, -30))
    body.sprite.polygon([body.at(x, y) for x, y in ((-hip, 500), (hip, 500), (hip, 590), (-hip, 590))], trousers)
    body.sprite.polygon(corners, top)
    body.sprite.limb(body.at(30 - shoulder, 190), body.at(shoulder - 30, 190), body.long(32), top)
    kind = draw.number(0, 10)
    if kind < 3:
        body.sprite.polygon(corners, shaded(draw.pick(CLOTH), 10), stripes=body.long(draw.number(36, 60)))
    elif kind < 5:
        inner = [body.at(x, y) for x, y in ((-26, 170), (26, 170), (20, 560), (-20, 560))]
        body.sprite.polygon(inner, draw.pick(CLOTH))
    elif kind < 7:
        wide = draw.number(130, 180)
        skirt = [body.at(x, y) for x, y in ((-hip, 480), (hip, 480), (wide, 720), (-wide, 720))]
        body.sprite.polygon(skirt, shaded(top, -8))


def _arm(body: Body, side: int, pose: str, upper: Colour, lower: Colour, skin: Colour) -> None:
    (elbow_x, elbow_y), (hand_x, hand_y) = ARMS[pose]
    shoulder, elbow, hand = body.at(98 * side, 205), body.at(elbow_x * side, elbow_y), body.at(hand_x * side, hand_y)
    body.sprite.limb(shoulder, elbow, body.long(36), upper)
    body.sprite.limb(elbow, hand, body.long(29), lower)
    body.sprite.disc(hand, body.long(33), body.long(33), skin)


def _head(body: Body, draw: Draw, skin: Colour) -> None:
    """From the front with eyes, from the side, or from behind; with short or long hair, a hat or a cap."""
    hair, across, high = draw.pick(HAIR), draw.number(58, 72), draw.number(76, 88)
    sprite, centre = body.sprite, body.at(0, high)
    view = draw.pick(("front", "front", "left", "right", "behind"))
    if draw.chance(35):
        for side in (-across + 10, across - 10) if view == "front" else (0,):
            sprite.limb(body.at(side, high), body.at(side, 200), body.long(26 if view == "front" else across + 8), hair)
    sprite.disc(centre, body.long(across), body.long(high), hair if view == "behind" else skin)
    if view != "behind":
        turn = {"front": 0, "left": 22, "right": -22}[view]
        sprite.disc(body.at(turn, high // 2), body.long(across), body.long(high // 2), hair)
        for eye in (turn - 22, turn + 22) if view == "front" else (-turn,):
            sprite.disc(body.at(eye, high + 10), body.long(10), body.long(12), (24, 20, 20))
    if draw.chance(25):
        hat = draw.pick(CLOTH)
        sprite.disc(body.at(0, high // 2), body.long(across + 4), body.long(high // 2), hat)
        brim = draw.number(40, 60)
        sprite.limb(body.at(-across - brim + 40, high * 3 // 4), body.at(across + brim - 20, high * 3 // 4), body.long(12), hat)


def _bag(body: Body, draw: Draw, pose: str) -> None:
    """A bag in the right hand."""
    x, y = ARMS[pose][1]
    wide, high = draw.number(50, 80), draw.number(90, 150)
    body.sprite.box(body.at(x - wide, y + 10), body.at(x + wide, y + 10 + high), shaded(draw.pick(CLOTH), -24))
