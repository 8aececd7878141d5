"""The explanations of an evaluation: scores by slice, confused pairs, pictures of the worst errors and curves, in a page.

They are made in the training pipeline, where torch is, and kept with the run. What is not here: how pictures are drawn
(`error_pictures`), and the console's page.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from openmlops.core.explanations import Explanations, Picture, SliceScore, confused_pairs, sources, thirds
from openmlops.core.images.statistics import luma_of
from openmlops.core.tasks import Task
from openmlops.core.types import Interval
from openmlops.errors import EvaluationError
from openmlops.files import write_text
from openmlops.images.lazy import Images, LazyImages, sizes
from openmlops.operations.release import error_pictures, figures

if TYPE_CHECKING:
    from openmlops.operations.release.evaluation_report import Evaluated

EVALUATION = "evaluation"
"""folder of a run's artifacts"""
FILE, PAGE = "explanations.json", "explanations.html"
_LUMA = np.array([0.299, 0.587, 0.114])

Curves = Mapping[str, Sequence[tuple[int, float]]]
"""metrics by name, each a value per epoch"""


def write_explanations(found: "Evaluated", task: Task, curves: Curves, folder: Path, kept: str = "") -> tuple[Path, ...]:
    """Write all files to `folder`; returns their paths. `kept`: which stage of the training the weights are of."""
    made = list(error_pictures.PICTURES[found.evaluation.kind](found, folder))
    if curves:
        figures.curves(curves, folder / "curves.png")
        made.append(Picture(file="curves.png", title="Learning curves"))
        if figures.validation_by_time(curves, folder / "validation_by_time.png"):
            made.append(Picture(file="validation_by_time.png", title="Validation by training time"))
    _, score = found.evaluation.headline()
    told = Explanations(
        metric=task.score_name,
        split=found.evaluation.split,
        n=found.evaluation.n,
        score=score,
        pairs=confused_pairs(found.evaluation),
        slices=slices(found, task),
        pictures=tuple(made),
        kept=kept,
    )
    pictures = [folder / picture.file for picture in made]
    data = write_text(folder / FILE, told.model_dump_json(indent=2))
    return data, write_text(folder / PAGE, page(told, folder)), *pictures


def slices(found: "Evaluated", task: Task) -> tuple[SliceScore, ...]:
    """The score of each slice by brightness, size and source that can be told apart and measured."""
    classes = len(found.evaluation.classes)
    parts = {
        "brightness (0 to 255)": thirds(brightness(found.images), ("dark", "medium", "bright")),
        "size (longer side in pixels)": thirds(sizes(found.images).max(axis=1).astype(float), ("small", "medium", "large")),
        "source (by file name)": sources(found.images.index.paths) if isinstance(found.images, LazyImages) else [],
    }
    scores = [(by, name, rows, _score(found, task, rows, classes)) for by, named in parts.items() for name, rows in named]
    return tuple(
        SliceScore(by=by, name=name, n=len(rows), score=score) for by, name, rows, score in scores if score is not None
    )


def _score(found: "Evaluated", task: Task, rows: np.ndarray, classes: int) -> Interval | None:
    try:
        return task.score_of(found.labels[rows], found.predictions[rows], classes)
    except EvaluationError:  # such as a slice without boxes
        return None


def brightness(images: Images) -> np.ndarray:
    """Mean luma float (n,), 0..255; of images on demand without decoding them."""
    if isinstance(images, LazyImages):
        return images.column("sums") @ _LUMA / images.column("pixels")
    return np.array([luma_of(image[None]).mean() for image in images], float)


def page(told: Explanations, folder: Path) -> str:
    """The explanations as one HTML file, pictures included. Names of classes and files are escaped."""
    environment = Environment(
        loader=PackageLoader("openmlops.operations.release"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = {
        picture.file: "data:image/png;base64," + base64.b64encode((folder / picture.file).read_bytes()).decode()
        for picture in told.pictures
    }
    return environment.get_template("explanations.html").render(told=told, content=content)
