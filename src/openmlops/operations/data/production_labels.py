"""Labelled production images: which may be trained on, and which are held out for the gate.

One input in five is held out by its content hash, so the assignment is permanent and no held-out image is ever trained on.
Images that equal or resemble an image of the frozen test split are used for neither. Not here: building a data version of
them (`from_production`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.core.images.boxes import objects
from openmlops.core.tasks import Task
from openmlops.core.validation import content_hashes, near_duplicates
from openmlops.errors import DataError
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

HELD_OUT_EVERY = 5
"""one input in this many is held out for evaluation"""
MIN_HELD_OUT, MAX_HELD_OUT = 50, 2000
"""below the minimum there is no fresh slice; above the maximum only the newest are used"""
IN_DATA = "already in the data set"


class UsableImages(NamedTuple):
    """n images and labels in the format of `Rows`, their inputs, and the refused inputs by reason."""

    images: np.ndarray
    labels: np.ndarray
    inputs: tuple[LabelledInput, ...]
    refused: dict[str, tuple[LabelledInput, ...]]


def is_held_out(found: LabelledInput) -> bool:
    """Whether an input is reserved for evaluating challengers and never trained on."""
    return int(found.sha256[:8], 16) % HELD_OUT_EVERY == 0


def held_out(workspace: Workspace, model: str, rows: Rows) -> tuple[np.ndarray, np.ndarray] | None:
    """The newest held-out images and labels, none of them in the data set; None if fewer than MIN_HELD_OUT."""
    candidates = [found for found in consistent(workspace.labelled_inputs.all(model)) if is_held_out(found)]
    if len(candidates) < MIN_HELD_OUT:
        return None
    found = usable(workspace, candidates[:MAX_HELD_OUT], rows)
    return (found.images, found.labels) if len(found.labels) >= MIN_HELD_OUT else None


def consistent(inputs: Sequence[LabelledInput]) -> list[LabelledInput]:
    """The newest record of each input; inputs with contradicting labels are left out."""
    labels: dict[str, set[str]] = {}
    for found in inputs:
        labels.setdefault(found.sha256, set()).add(found.label)
    first = {found.sha256: found for found in reversed(inputs) if len(labels[found.sha256]) == 1}
    return [found for found in inputs if first.get(found.sha256) is found]


def usable(workspace: Workspace, inputs: Sequence[LabelledInput], rows: Rows) -> UsableImages:
    """Read and decode inputs. Refuses those that are no longer stored, of an unknown class, in the data set already, or
    near-duplicates of a test image."""
    refused: dict[str, list[LabelledInput]] = {}
    images, labels, taken = [], [], []
    task = workspace.use_case.task
    for found in inputs:
        try:
            image = workspace.use_case.decode(workspace.inputs.read(found.sha256))
        except DataError:
            refused.setdefault("no longer stored", []).append(found)
            continue
        label, unusable = _label(task, found, image, rows)
        if unusable:
            refused.setdefault(unusable, []).append(found)
            continue
        images.append(image)
        labels.append(label)
        taken.append(found)
    stacked = _as_rows(images, rows)
    why = _refusals(stacked, rows)
    kept = [row for row, reason in enumerate(why) if not reason]
    for found, reason in zip(taken, why, strict=True):
        if reason:
            refused.setdefault(reason, []).append(found)
    return UsableImages(
        stacked[kept],
        task.labels([labels[row] for row in kept]),
        tuple(taken[row] for row in kept),
        {why: tuple(all_) for why, all_ in refused.items()},
    )


def _label(task: Task, found: LabelledInput, image: np.ndarray, rows: Rows) -> tuple[str, str]:
    """The label as JSON in the classes of `rows`, clipped to the image, and ""; or "" and why it cannot be used."""
    label = task.renamed(found.label, found.classes, rows.names)
    if label is None:
        return "", "of a class that is not in the data set"
    cut = task.within(task.labels([label])[0], image)
    return ("", "labelled outside their image") if cut is None else (task.as_json(cut), "")


def _as_rows(images: Sequence[np.ndarray], rows: Rows) -> np.ndarray:
    """Images as an array of the dtype and shape of `rows.images`, also for zero images."""
    if rows.images.dtype == object:
        return objects(images)
    return np.array(images, np.uint8).reshape(-1, *rows.images.shape[1:])


def _refusals(images: np.ndarray, rows: Rows) -> list[str]:
    """Per image, why it must not be used; empty if it may."""
    if not len(images):
        return []
    known = set(content_hashes(rows.images))
    near = near_duplicates(images, rows.images[rows.test])
    reasons = []
    for digest, is_near in zip(content_hashes(images), near, strict=True):
        reasons.append("near-duplicates of test images" if is_near else IN_DATA if digest in known else "")
        known.add(digest)
    return reasons
