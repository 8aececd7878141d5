"""Pictures of a model's worst errors: of a classifier with what it looked at, of a detector with missed and false boxes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.detection.matching import THRESHOLDS, same_class_overlap, taken
from openmlops.core.explanations import Picture, worst_errors
from openmlops.core.images.drawing import PREDICTED, TRUE, with_boxes
from openmlops.files import replacing

if TYPE_CHECKING:
    from openmlops.operations.release.evaluation_report import Evaluated

MOST = 12
"""errors on a sheet"""
TILE = 200
"""longer side of a classifier's image in pixels"""
BOXED = 360
"""longer side of a detector's image in pixels"""
GAP, LINE = 10, 16
HEAT = (0.45, np.array([255, 64, 0], np.float32))
"""opacity and colour of the hottest place"""


def of_classifier(found: "Evaluated", folder: Path) -> Iterator[Picture]:
    """The most confident errors, each beside the same image with the places that spoke for the predicted class."""
    rows = worst_errors(found.labels, found.predictions, MOST)
    if not len(rows):
        return
    predicted = found.predictions[rows].argmax(axis=1)
    names = [score.name for score in found.evaluation.classes]
    images = [found.images[int(row)] for row in rows]
    heats = found.heat_maps(images, predicted) if found.heat_maps else None
    tiles = []
    for number, (row, image) in enumerate(zip(rows, images, strict=True)):
        shares = found.predictions[row]
        kinds = (("true", found.labels[row]), ("predicted", predicted[number]))
        lines = tuple(f"{what}: {names[kind]}, {shares[kind]:.0%}" for what, kind in kinds)
        pictures = [image] if heats is None else [image, heated(image, _fitted(heats[number], image.shape[:2]))]
        tiles.append(_tile([_scaled(each, TILE) for each in pictures], lines))
    _sheet(tiles, 2 if heats is not None else 4, folder / "worst_errors.png")
    title = "Worst errors" if heats is None else "Worst errors, and what spoke for the predicted class (Grad-CAM)"
    yield Picture(file="worst_errors.png", title=title)


def of_detector(found: "Evaluated", folder: Path) -> Iterator[Picture]:
    """The images with the most missed and false boxes, and these boxes."""
    names = tuple(score.name for score in found.evaluation.classes)
    wrong = [errors(true, boxes) for true, boxes in zip(found.labels, found.predictions, strict=True)]
    counts = np.array([len(missed) + len(false) for missed, false in wrong])
    rows = [int(row) for row in np.argsort(-counts, kind="stable")[:MOST] if counts[row]]
    if not rows:
        return
    tiles = []
    for row in rows:
        missed, false = wrong[row]
        image = found.images[row]
        drawn = with_boxes(image, false, names, truth=missed, scale=BOXED / max(image.shape[:2]))
        tiles.append(_tile([drawn], (f"{len(missed)} missed", f"{len(false)} false"), (TRUE, PREDICTED)))
    _sheet(tiles, 3, folder / "missed_and_false.png")
    title = f"Missed boxes (green) and false boxes (red, confidence {OPERATING:g} and above)"
    yield Picture(file="missed_and_false.png", title=title)


PICTURES: dict[str, Callable[["Evaluated", Path], Iterator[Picture]]] = {
    "classification": of_classifier,
    "detection": of_detector,
}


def errors(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True boxes (m, 5) and predicted ones (k, 6) of an image -> the missed ones, and the false ones of score >= OPERATING."""
    found = found[found[:, 4] >= OPERATING]
    takes = taken(same_class_overlap(true, found), found[:, 4], THRESHOLDS[:1])[:, 0]
    return true[~np.isin(np.arange(len(true)), takes)], found[takes < 0]


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) and its heat float (h, w) 0..1 -> the image with the heat over it."""
    opacity, colour = HEAT
    share = opacity * heat[..., None]
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    return ((1 - share) * grey + share * colour).round().clip(0, 255).astype(np.uint8)


def _fitted(heat: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The heat at the size of its image."""
    from PIL import Image

    return np.asarray(Image.fromarray(heat).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def _scaled(image: np.ndarray, side: int) -> Any:
    from PIL import Image

    scale = side / max(image.shape[:2])
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR)


def _tile(pictures: list[Any], lines: tuple[str, ...], colours: tuple[str, ...] = ()) -> Any:
    """Pictures side by side with lines of text below."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = sum(picture.width for picture in pictures), max(picture.height for picture in pictures)
    page = Image.new("RGB", (width, height + LINE * len(lines) + 4), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(LINE - 3)
    for number, line in enumerate(lines):
        colour = colours[number] if colours else "black"
        pen.text((2, height + 2 + LINE * number), _fitting(line, font, width), fill=colour, font=font)
    return page


def _fitting(line: str, font: Any, width: int) -> str:
    """The line as far as there is room, what the font lacks replaced."""
    line = line.encode("latin-1", "replace").decode("latin-1")
    while len(line) > 4 and font.getlength(line) > width:
        line = line[:-4] + "..."
    return line


def _sheet(tiles: list[Any], columns: int, path: Path) -> None:
    from PIL import Image

    columns = min(columns, len(tiles))
    width, height = max(tile.width for tile in tiles) + GAP, max(tile.height for tile in tiles) + GAP
    page = Image.new("RGB", (columns * width + GAP, -(-len(tiles) // columns) * height + GAP), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        page.paste(tile, (GAP + column * width, GAP + row * height))
    with replacing(path) as beside:
        page.save(beside, "PNG")
