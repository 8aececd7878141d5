"""Builds a new version of the data set from labelled production images, validated like any other.

Here: selection, the new version, and marking labels as used. Not here: which images may be trained on, and the slice that is
held out for the gate (`production_labels`).
"""

from collections import Counter
from datetime import datetime

from openmlops.adapters.fences import Lease
from openmlops.adapters.labelled_inputs import LabelledInput
from openmlops.core.types import DatasetRef, ModelRef, Value
from openmlops.errors import DataError
from openmlops.operations.data import datasets, versions
from openmlops.operations.data.production_labels import NEAR_TEST, UsableImages, consistent, is_held_out, usable
from openmlops.operations.data.rows import rows_of
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder

MAX_PER_DAY = 1000
"""most images of one day (UTC) in one version: the log does not record clients, so the cap is per day"""
MANY_COPIES = 20
"""near-duplicates of test images that stop a retraining, if they are the larger part of the new images"""
MAX_IMAGES = 5000
"""most images that one version adds"""


class NewData(Value):
    """The version to train on: number of images `added`, `held_out` for the gate, and `refused` by reason.

    `predictions` are the ids whose labels are marked as used once training has ended.
    """

    dataset: DatasetRef
    added: int
    held_out: int
    refused: dict[str, int]
    predictions: tuple[str, ...]


def add_labelled(workspace: Workspace, champion: ModelRef, fence: Lease | None = None) -> NewData:
    """Add the new labelled images as a version. If the current version has them already, because a retraining or its push was
    interrupted, push that one.

    Raises DataError if no new image can be trained on, DataInvalid if the new version fails validation, LeaseLost if another
    process has acquired the lease `fence`, under which the caller acts.
    """
    current = datasets.ingest(workspace)
    rows = rows_of(workspace, current)
    new = workspace.labelled_inputs.new(champion.name)
    agreed = consistent(new)
    held_back = [found for found in agreed if is_held_out(found)]
    found = usable(workspace, _capped([each for each in agreed if not is_held_out(each)]), rows)
    if not len(found.labels) and current.fingerprint == champion.dataset:
        raise DataError(
            f"None of the {len(new)} new labelled images can be used for training",
            _refusal_reasons(found, len(new) - len(agreed)),
        )
    _require_few_copies(found)
    dataset = _add(workspace, current, found, fence) if len(found.labels) else datasets.add(workspace, workspace.data_folder)
    considered = (*found.inputs, *held_back, *(each for group in found.refused.values() for each in group))
    refused = {why: len(group) for why, group in found.refused.items()}
    return NewData(
        dataset=dataset,
        added=len(found.labels),
        held_out=len(held_back),
        refused=refused | ({"duplicates or conflicting labels": len(new) - len(agreed)} if len(new) > len(agreed) else {}),
        predictions=_with_duplicates(considered, new),
    )


def _require_few_copies(found: UsableImages) -> None:
    """Raise DataError if most of the labelled images are copies of test images: the rest is no sample of the traffic."""
    copies = len(found.refused.get(NEAR_TEST, ()))
    if copies >= MANY_COPIES and copies > len(found.inputs):
        problem = f"{copies} of {copies + len(found.inputs)} new labelled images are near-duplicates of test images"
        raise DataError(
            f"{problem}, and cannot be trained on",
            "Do not send the test images to the server; if the camera sees nothing else, add a test set of scenes of its own "
            "with `openmlops data add`",
        )


def mark_used(workspace: Workspace, new: NewData, now: datetime, fence: Lease | None = None) -> None:
    """Record that these labels were used for training. Raises LeaseLost as `add_labelled` does."""
    workspace.labelled_inputs.mark_used(new.predictions, new.dataset.fingerprint, now, fence)


def _capped(inputs: list[LabelledInput]) -> list[LabelledInput]:
    """The newest images, at most MAX_PER_DAY of a day and MAX_IMAGES in total."""
    days: Counter = Counter()
    taken = []
    for found in inputs:
        days[found.at.date()] += 1
        if days[found.at.date()] <= MAX_PER_DAY:
            taken.append(found)
    return taken[:MAX_IMAGES]


def _add(workspace: Workspace, current: DatasetRef, found: UsableImages, fence: Lease | None) -> DatasetRef:
    extend = workspace.use_case.extend
    if extend is None:
        name = workspace.use_case.name
        raise DataError(f"The use case {name} cannot add production images", "Add them with `openmlops data add FOLDER`")
    with temporary_folder(workspace.home, "new-data-") as scratch:
        out = extend(versions.local(workspace, current), found.images, found.labels, scratch / workspace.use_case.folder)
        if fence:
            workspace.leases.require(fence)
        return datasets.add(workspace, out)


def _with_duplicates(considered: tuple[LabelledInput, ...], new: tuple[LabelledInput, ...]) -> tuple[str, ...]:
    """Prediction ids of these inputs, of their duplicates, and of inputs with contradicting labels."""
    known = {found.sha256 for found in considered}
    agreed = {found.sha256 for found in consistent(new)}
    return tuple(found.prediction for found in new if found.sha256 in known or found.sha256 not in agreed)


def _refusal_reasons(found: UsableImages, contradicting: int) -> str:
    reasons = [f"{len(group)} are {why}" for why, group in found.refused.items()]
    reasons += [f"{contradicting} are duplicates or have conflicting labels"] if contradicting else []
    return "; ".join(reasons) or "Label images from the latest windows: `openmlops decisions` lists some"
