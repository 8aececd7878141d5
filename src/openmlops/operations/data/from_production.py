"""Labelled production images become a new version of the data set, validated like any other.

What is here: which are taken, the new version, and that their labels count as used. What is not: what makes an image fit to be
trained on, and the slice that is held out for the gate (`production_images`).
"""

import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.core.types import DatasetRef, ModelRef, Value
from openmlops.errors import DataError
from openmlops.operations.data import datasets
from openmlops.operations.data.production_labels import UsableImages, consistent, is_held_out, usable
from openmlops.operations.workspace import Workspace

MAX_PER_DAY = 1000
"""images of one day (UTC) of traffic in one version: the log knows no clients, so a day is the source that is capped"""
MAX_IMAGES = 5000
"""images that one version adds"""


class NewData(Value):
    """The version to train on: `added` images are new in it, `held_out` ones wait for the gate; what was refused, by reason.

    `predictions` are those whose labels count as used once a training has ended.
    """

    dataset: DatasetRef
    added: int
    held_out: int
    refused: dict[str, int]
    predictions: tuple[str, ...]


def add_labelled(workspace: Workspace, champion: ModelRef) -> NewData:
    """Make a version with the new labelled images, or find that the current one has them (a killed retraining left it so, or
    one whose push was cut off: it is pushed now).

    Raises DataError if there is nothing to train on anew, DataInvalid if the version with them does not pass the checks.
    """
    current = datasets.ingest(workspace)
    rows = workspace.use_case.read(Path(current.path))
    new = workspace.labelled_inputs.new(champion.name)
    agreed = consistent(new)
    held_back = [found for found in agreed if is_held_out(found)]
    found = usable(workspace, _capped([each for each in agreed if not is_held_out(each)]), rows)
    if not len(found.labels) and current.fingerprint == champion.dataset:
        raise DataError(
            f"None of {len(new)} new labelled images can be trained on", _refusal_reasons(found, len(new) - len(agreed))
        )
    dataset = _add(workspace, current, found) if len(found.labels) else datasets.add(workspace, Path(current.path))
    considered = (*found.inputs, *held_back, *(each for group in found.refused.values() for each in group))
    refused = {why: len(group) for why, group in found.refused.items()}
    return NewData(
        dataset=dataset,
        added=len(found.labels),
        held_out=len(held_back),
        refused=refused | ({"labelled twice or contradicting": len(new) - len(agreed)} if len(new) > len(agreed) else {}),
        predictions=_with_duplicates(considered, new),
    )


def mark_used(workspace: Workspace, new: NewData, now: datetime) -> None:
    """From now on these labels are no longer new."""
    workspace.labelled_inputs.mark_used(new.predictions, new.dataset.fingerprint, now)


def _capped(inputs: list[LabelledInput]) -> list[LabelledInput]:
    """The newest, at most MOST_A_DAY of a day and MOST in all."""
    days: Counter = Counter()
    taken = []
    for found in inputs:
        days[found.at.date()] += 1
        if days[found.at.date()] <= MAX_PER_DAY:
            taken.append(found)
    return taken[:MAX_IMAGES]


def _add(workspace: Workspace, current: DatasetRef, found: UsableImages) -> DatasetRef:
    extend = workspace.use_case.extend
    if extend is None:
        name = workspace.use_case.name
        raise DataError(f"The use case {name} cannot add production images", "Add them with `openmlops data add FOLDER`")
    with tempfile.TemporaryDirectory(prefix="new-data-", dir=workspace.home) as scratch:
        out = extend(Path(current.path), found.images, found.labels, Path(scratch) / workspace.use_case.folder)
        return datasets.add(workspace, out)


def _with_duplicates(considered: tuple[LabelledInput, ...], new: tuple[LabelledInput, ...]) -> tuple[str, ...]:
    """The predictions of these inputs, of the same inputs sent again, and of those whose labels contradict each other."""
    known = {found.sha256 for found in considered}
    agreed = {found.sha256 for found in consistent(new)}
    return tuple(found.prediction for found in new if found.sha256 in known or found.sha256 not in agreed)


def _refusal_reasons(found: UsableImages, contradicting: int) -> str:
    reasons = [f"{len(group)} are {why}" for why, group in found.refused.items()]
    reasons += [f"{contradicting} are repeats or contradict each other"] if contradicting else []
    return "; ".join(reasons) or "Label images of the last windows: `openmlops decisions` names some"
