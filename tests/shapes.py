"""Pictures such as a person has them in folders: squares, discs and triangles over a mottled ground, drawn by a seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from openmlops.usecases.image_folder import image_folder

NAMES = ("disc", "square", "triangle")
SIDE = 32


def picture(name: str, draw: np.random.Generator) -> np.ndarray:
    """uint8 (32, 32, 3)"""
    mottles = draw.integers(20, 110, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(mottles).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    size = int(draw.integers(12, 20))
    left, top = (int(draw.integers(1, SIDE - size - 1)) for _ in range(2))
    right, bottom = left + size, top + size
    colour = tuple(int(value) for value in draw.integers(150, 256, 3))
    canvas = ImageDraw.Draw(image)
    if name == "disc":
        canvas.ellipse((left, top, right, bottom), fill=colour)
    elif name == "square":
        canvas.rectangle((left, top, right, bottom), fill=colour)
    else:
        canvas.polygon(((left, bottom), (right, bottom), ((left + right) // 2, top)), fill=colour)
    return np.asarray(image)


def pictures(count: int, seed: int) -> dict[str, list[np.ndarray]]:
    """So many of each."""
    draw = np.random.default_rng(seed)
    return {name: [picture(name, draw) for _ in range(count)] for name in NAMES}


def folders(place: Path, count: int, seed: int = 0) -> Path:
    """A folder for each, with `count` pictures in it."""
    for name, images in pictures(count, seed).items():
        (place / name).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(place / name / f"{number:04d}.png")
    return place


def sample(place: Path) -> Path:
    """The layout that the use case keeps."""
    for seed, (split, count) in enumerate((("train", 120), ("val", 40), ("test", 30))):
        folders(place / split, count, seed)
    return place


USE_CASE = replace(image_folder("shapes", NAMES, SIDE), sample=sample)
