"""Labelled production images: which may be trained on, and which are held out for the gate.

One input in five is held out by its content hash, so the assignment is permanent and no held-out image is ever trained on.
Images that are copies of an image of the frozen test split are used for neither. Not here: building a data version of
them (`from_production`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.core.images.boxes import objects
from openmlops.core.tasks import Task
from openmlops.errors import DataError
from openmlops.images.copies import are_copies
from openmlops.images.index import index_of_contents
from openmlops.images.lazy import Images, LazyImages, digests, sizes
from openmlops.operations.data.provenance import Came, came
from openmlops.operations.workspace import Workspace
from openmlops.usecases.base import Rows

HELD_OUT_EVERY = 5
"""one input in this many is held out for evaluation"""
MIN_HELD_OUT, MAX_HELD_OUT = 50, 2000
"""below the minimum there is no fresh slice; above the maximum only the newest are used"""
IN_DATA = "already in the data set"
NEAR_TEST = "near-duplicates of test images"


class UsableImages(NamedTuple):
    """n images and labels in the format of `Rows`, their inputs, and the refused inputs by reason."""

    images: Images
    labels: np.ndarray
    inputs: tuple[LabelledInput, ...]
    refused: dict[str, tuple[LabelledInput, ...]]


def is_held_out(found: LabelledInput) -> bool:
    """Whether an input is reserved for evaluating challengers and never trained on."""
    return int(found.sha256[:8], 16) % HELD_OUT_EVERY == 0


class Fresh(NamedTuple):
    """Held-out images and labels that judge challengers, and sentences on what was left out."""

    images: Images
    labels: np.ndarray
    notes: tuple[str, ...]


def held_out(workspace: Workspace, model: str, rows: Rows) -> Fresh | None:
    """The newest held-out images and labels, none of them in the data set; None if fewer than MIN_HELD_OUT.

    Those that were asked about because the champion was uncertain are left out: it is worse on them than on others, and any
    other model seems better. Those drawn at random judge alone if they are enough; else labels that came of themselves do too.
    """
    everything = workspace.labelled_inputs.all(model)
    candidates = [found for found in consistent(everything) if is_held_out(found)]
    if len(candidates) < MIN_HELD_OUT:
        return None
    how = came(workspace, model, everything)
    random = [found for found in candidates if how[found.sha256] == "random"]
    chosen = random if len(random) >= MIN_HELD_OUT else [found for found in candidates if how[found.sha256] != "uncertain"]
    found = usable(workspace, chosen[:MAX_HELD_OUT], rows)
    return Fresh(found.images, found.labels, _notes(candidates, chosen, how)) if len(found.labels) >= MIN_HELD_OUT else None


def _notes(candidates: Sequence[LabelledInput], chosen: Sequence[LabelledInput], how: dict[str, Came]) -> tuple[str, ...]:
    taken = {found.sha256 for found in chosen}
    ways = Counter(how[found.sha256] for found in candidates if found.sha256 not in taken)
    reasons: dict[Came, str] = {
        "uncertain": "were asked for because the champion was uncertain",
        "itself": "came of themselves",
    }
    told = [f"{ways[way]} {why}" for way, why in reasons.items() if ways[way]]
    return (f"Left out of the fresh images: {' and '.join(told)}; those drawn at random judge.",) if told else ()


def consistent(inputs: Sequence[LabelledInput]) -> list[LabelledInput]:
    """The newest record of each input; inputs with contradicting labels are left out."""
    labels: dict[str, set[str]] = {}
    for found in inputs:
        labels.setdefault(found.sha256, set()).add(found.label)
    first = {found.sha256: found for found in reversed(inputs) if len(labels[found.sha256]) == 1}
    return [found for found in inputs if first.get(found.sha256) is found]


def usable(workspace: Workspace, inputs: Sequence[LabelledInput], rows: Rows) -> UsableImages:
    """The images of inputs. Refuses those that are no longer stored, of an unknown class, in the data set already, or
    near-duplicates of a test image."""
    refused: dict[str, list[LabelledInput]] = {}
    images, stored = _stored(workspace, inputs, rows)
    refused["no longer stored"] = [found for found, is_there in zip(inputs, stored, strict=True) if not is_there]
    task, labels, kept, taken = workspace.use_case.task, [], [], []
    there = [found for found, is_there in zip(inputs, stored, strict=True) if is_there]
    for row, (found, size) in enumerate(zip(there, sizes(images).tolist(), strict=True)):
        label, unusable = _label(task, found, (size[0], size[1]), rows)
        if unusable:
            refused.setdefault(unusable, []).append(found)
            continue
        kept.append(row)
        labels.append(label)
        taken.append(found)
    images = images[np.array(kept, np.int64)]
    why = _refusals(images, rows)
    kept = [row for row, reason in enumerate(why) if not reason]
    for found, reason in zip(taken, why, strict=True):
        if reason:
            refused.setdefault(reason, []).append(found)
    return UsableImages(
        images[np.array(kept, np.int64)],
        task.labels([labels[row] for row in kept]),
        tuple(taken[row] for row in kept),
        {why: tuple(all_) for why, all_ in refused.items() if all_},
    )


def _stored(workspace: Workspace, inputs: Sequence[LabelledInput], rows: Rows) -> tuple[Images, list[bool]]:
    """The images of the inputs that are still stored, on demand or in memory as those of `rows`; and of each whether it is."""
    use_case = workspace.use_case
    names = [found.sha256 for found in inputs]
    if isinstance(rows.images, LazyImages):
        index = index_of_contents(names, workspace.inputs.read)
        stored = [not problem for problem in index.problems]
        there = [name for name, is_there in zip(names, stored, strict=True) if is_there]

        def content(row: int) -> bytes:
            return workspace.inputs.read(there[row])

        found = index.at(np.flatnonzero(stored))
        return LazyImages.of_contents(content, found.sizes, use_case.decode, use_case.frame, found), stored
    images: list[np.ndarray] = []
    stored = []
    for name in names:
        try:
            images.append(use_case.decode(workspace.inputs.read(name)))
        except DataError:
            stored.append(False)
        else:
            stored.append(True)
    if rows.images.dtype == object:
        return objects(images), stored
    return np.array(images, np.uint8).reshape(-1, *rows.images.shape[1:]), stored


def _label(task: Task, found: LabelledInput, size: tuple[int, int], rows: Rows) -> tuple[str, str]:
    """The label as JSON in the classes of `rows`, clipped to the image of `size`, and ""; or "" and why it cannot be used."""
    label = task.renamed(found.label, found.classes, rows.names)
    if label is None:
        return "", "of a class that is not in the data set"
    cut = task.within(task.labels([label])[0], size)
    return ("", "labelled outside their image") if cut is None else (task.as_json(cut), "")


def _refusals(images: Images, rows: Rows) -> list[str]:
    """Per image, why it must not be used; empty if it may."""
    if not len(images):
        return []
    known = set(digests(rows.images))
    near = are_copies(images, rows.images[rows.test])
    reasons = []
    for digest, is_near in zip(digests(images), near, strict=True):
        reasons.append(NEAR_TEST if is_near else IN_DATA if digest in known else "")
        known.add(digest)
    return reasons
