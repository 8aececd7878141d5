"""Figures of evaluation results as PNG files. matplotlib is imported on use, with a headless backend."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openmlops.core.quality import DetectionEvaluation, Evaluation
from openmlops.files import replacing

COUNTED_CLASSES = 25
"""up to this many classes each cell displays its count; beyond, colours only"""
SCORES = ("validation_", "train_")
"""what the names of an epoch's scores begin with"""
DARK = 0.55
"""share above which a cell has white text"""


def confusion_matrix(evaluation: Evaluation, path: Path) -> Path:
    """Plot the confusion matrix: counts, coloured by the share of the true class (row)."""
    names = [score.name for score in evaluation.classes]
    if isinstance(evaluation, DetectionEvaluation):
        names.append("background")
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(16.0, 3.5 + 0.62 * len(names))
    axes, figure = canvas(size + 0.8, size)
    middles = [place + 0.5 for place in range(len(names))]
    image = axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1)  # imshow resamples to every pixel: 100 MB
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(middles, [f"{name} ({total})" for name, total in zip(names, counts.sum(axis=1), strict=True)])
    axes.set_xlabel("answered")
    axes.set_ylabel(f"true class ({'boxes' if isinstance(evaluation, DetectionEvaluation) else 'images'})")
    axes.set_title(_title(evaluation), fontsize=11)
    if len(names) <= COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > DARK else "black" if count else "0.75"
            axes.text(middles[column], middles[row], str(count), ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.02)
    return save(figure, path)


def curves(metrics: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> Path:
    """Plot the losses of all epochs, and beside them the validation scores; rates and times are left out."""
    losses = {name: points for name, points in metrics.items() if "loss" in name}
    scores = {name: points for name, points in metrics.items() if name.startswith(SCORES) and name not in losses}
    axes, figure = canvas(10, 4)
    right = axes.twinx()
    for place, drawn, style in ((axes, losses, "-"), (right, scores, "--")):
        for number, (name, points) in enumerate(sorted(drawn.items())):
            epochs, values = zip(*points, strict=True)
            place.plot(epochs, values, style, color=f"C{number + (5 if place is right else 0)}", label=name, marker=".")
    axes.set(xlabel="epoch", ylabel="loss")
    right.set(ylabel="share", ylim=(0, 1.02))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)
    right.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8)
    return save(figure, path)


def validation_by_time(metrics: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> bool:
    """Plot validation scores (0..1) against seconds of training, if there are two epochs of them; whether there are."""
    seconds = dict(metrics.get("seconds", ()))
    scores = {name: points for name, points in metrics.items() if name.startswith("validation_") and "loss" not in name}
    if len(seconds) < 2 or not scores:
        return False
    elapsed = dict(zip(seconds, itertools.accumulate(seconds.values()), strict=True))
    axes, figure = canvas(10, 4)
    for name, points in sorted(scores.items()):
        found = [(elapsed[epoch], value) for epoch, value in points if epoch in elapsed]
        axes.plot(*zip(*found, strict=True), marker=".", label=name)
    axes.set(xlabel="seconds of training", ylabel="share", xlim=(0, None), ylim=(None, 1.02))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8)
    save(figure, path)
    return True


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """Axes and figure of the given size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot(), figure


def save(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    with replacing(path) as beside:
        figure.savefig(beside, format="png")
    return path


def _title(evaluation: Evaluation) -> str:
    name, found = evaluation.headline()
    score = f"{name} {found.value:.1%} (95% interval {found.low:.1%} to {found.high:.1%})"
    return f"{evaluation.split} split, {evaluation.n:,} images\n{score}"
