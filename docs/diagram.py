"""The diagram of a README as an SVG: the site shows this picture, because drawing it in the browser needs megabytes of script.

What is here: reading the boxes and arrows of a mermaid flowchart, and laying them out in rows, read like text. What is not: any
other kind of diagram. The arrow back to the first box is drawn last, dashed, as in the flowchart.
"""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = {"README.md": "loop.svg", "README.fr.md": "loop.fr.svg"}
COLOUR = "#7a828d"
ACCENT = "#2a9d8f"
A_ROW, WIDTH, HEIGHT, GAP, DROP, MARGIN = 3, 250, 78, 56, 62, 40
_BOX = re.compile(r"(\w+)(\[\(|\[|\{)\"(.*?)\"(?:\)\]|\]|\})")
_ARROW = re.compile(r"^\s*(\w+)\b.*?\s(-->|-\. \"(.*?)\" \.->|-- \"(.*?)\" -->)\s*(\w+)", re.MULTILINE)


class Box(NamedTuple):
    """One box: its lines of text; `decides` is a diamond in the flowchart, `keeps` a store."""

    lines: tuple[str, ...]
    decides: bool
    keeps: bool


class Arrow(NamedTuple):
    """From box to box, with what is written on it."""

    source: str
    target: str
    says: tuple[str, ...]


def read(markdown: str) -> tuple[dict[str, Box], list[Arrow]]:
    """The boxes by name, in their order, and the arrows of the flowchart in a document."""
    block = re.search(r"```mermaid\n(.*?)```", markdown, re.DOTALL)
    text = block[1] if block else ""
    boxes = {name: Box(tuple(said.split("<br/>")), shape == "{", shape == "[(") for name, shape, said in _BOX.findall(text)}
    bare = _BOX.sub(r"\1", text)
    arrows = [Arrow(a, b, tuple((dotted or said).split("<br/>"))) for a, _, dotted, said, b in _ARROW.findall(bare)]
    return boxes, arrows


def draw_all() -> Iterator[Path]:
    """Write the picture of each README that is there."""
    for source, name in SOURCES.items():
        path = ROOT / "docs" / "pictures" / name
        path.write_text(svg(*read((ROOT / source).read_text())))
        yield path


def svg(boxes: dict[str, Box], arrows: list[Arrow]) -> str:
    """The picture as a whole."""
    places = {name: _place(i) for i, name in enumerate(boxes)}
    rows = (len(boxes) - 1) // A_ROW + 1
    width, height = A_ROW * WIDTH + (A_ROW - 1) * GAP + MARGIN + 10, rows * HEIGHT + (rows - 1) * DROP + 60
    shapes = [_shape(box, *places[name]) for name, box in boxes.items()]
    lines = [_line(arrow, places[arrow.source], places[arrow.target]) for arrow in arrows]
    marker = f'<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="{COLOUR}"/></marker>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="15">'
    return "\n".join([head, f"<defs>{marker}</defs>", *lines, *shapes, "</svg>", ""])


def _place(i: int) -> tuple[int, int]:
    row, column = divmod(i, A_ROW)
    return MARGIN + column * (WIDTH + GAP), 10 + row * (HEIGHT + DROP)


def _shape(box: Box, x: int, y: int) -> str:
    colour, radius = (ACCENT if box.decides else COLOUR), (26 if box.keeps else 8)
    dash = ' stroke-width="2.5"' if box.decides or box.keeps else ""
    frame = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{radius}" fill="none" stroke="{colour}"{dash}/>'
    return frame + _text(box.lines, x + WIDTH / 2, y + HEIGHT / 2, 15)


def _text(lines: tuple[str, ...], x: float, y: float, size: int) -> str:
    first = y - (len(lines) - 1) * size * 0.6 + size * 0.35
    spans = "".join(f'<tspan x="{x:g}" y="{first + i * size * 1.2:g}">{escape(line)}</tspan>' for i, line in enumerate(lines))
    return f'<text text-anchor="middle" fill="{COLOUR}" font-size="{size}">{spans}</text>'


def _line(arrow: Arrow, source: tuple[int, int], target: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = source, target
    middle = y1 + HEIGHT / 2
    if y1 == y2:
        path, at = f"M{x1 + WIDTH} {middle}H{x2 - 2}", ((x1 + WIDTH + x2) / 2, y1 + HEIGHT + 18)
    elif y1 < y2:
        between = y1 + HEIGHT + DROP * 0.7
        path, at = f"M{x1 + WIDTH / 2} {y1 + HEIGHT}V{between}H{x2 + WIDTH / 2}V{y2 - 2}", ((x1 + x2 + WIDTH) / 2, between - 18)
    else:
        below = y1 + HEIGHT + 24
        path, at = f"M{x1 + WIDTH / 2} {y1 + HEIGHT}V{below}H14V{y2 + HEIGHT / 2}H{x2 - 2}", (x1 + WIDTH / 2, below + 18)
    dash = ' stroke-dasharray="5 4"' if y1 > y2 else ""
    line = f'<path d="{path}" fill="none" stroke="{COLOUR}" marker-end="url(#tip)"{dash}/>'
    return line + (_text(arrow.says, *at, 13) if any(arrow.says) else "")
