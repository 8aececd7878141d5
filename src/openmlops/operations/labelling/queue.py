"""Human labelling: the open label request, requests by hand, and submitting a label.

A request is a `collect_labels` decision; it is open until a later decision retrains or rolls back. A label is stored in the
inference log as one sent to POST /feedback. Not here: how a request is drawn (`core.monitoring.sampling`), the pages
(`console.labelling`), and training on labels (`from_production`).
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from openmlops.adapters.decisions import DecisionRecord, new_id
from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.images.decoding import decode_native, upright_size
from openmlops.core.monitoring.observed import WorthLabelling
from openmlops.core.monitoring.sampling import Request, draw_request, least_certain, seed_of
from openmlops.core.types import Value
from openmlops.errors import DataError, LabelConflict, ModelNotFound, PredictionNotFound
from openmlops.operations.workspace import Workspace

WINDOW = 500
"""latest predictions that a request by hand selects from"""


class RequestedImage(Value):
    """One image of a label request, selected because the model was `uncertain` or at `random`."""

    prediction: str
    sha256: str
    at: datetime
    why: Literal["uncertain", "random"]


class LabelRequest(Value):
    """A label request and its progress.

    `open` are its unlabelled images whose input is stored, uncertain and random alternating; `not_kept` counts unlabelled
    images that are no longer stored. `new_labels` counts all labels that no training has used, from any source; a retraining
    needs `needed`.
    """

    decision: str
    at: datetime
    by: str
    version: int
    reasons: tuple[str, ...]
    labelled: int
    not_kept: int
    open: tuple[RequestedImage, ...]
    new_labels: int
    needed: int

    @property
    def requested(self) -> int:
        """Number of images in the request."""
        return self.labelled + self.not_kept + len(self.open)

    def after(self, prediction: str) -> RequestedImage | None:
        """The next open image after this prediction, wrapping around; None if none is open."""
        names = [wanted.prediction for wanted in self.open]
        start = names.index(prediction) + 1 if prediction in names else 0
        return self.open[start % len(names)] if names else None


class PredictionRecord(NamedTuple):
    """One logged prediction: id, time, SHA-256 of its input, the prediction in the task's format, its label as JSON or None,
    and the class names."""

    prediction: str
    at: datetime
    sha256: str
    predicted: np.ndarray
    label: str | None
    classes: tuple[str, ...]


def current_request(workspace: Workspace, model: str) -> LabelRequest | None:
    """The open label request with its progress; None if there is none."""
    record = workspace.decisions.open_request(model)
    return _remaining(workspace, record) if record else None


def request_labels(workspace: Workspace, model: str, by: str, now: datetime) -> DecisionRecord:
    """Request labels by hand, for the champion's latest unlabelled predictions whose input is stored.

    The request is stored as a decision, with how it was drawn, so that each label counts for as many answers as it stands for.
    Raises ModelNotFound without a champion, DataError if no image qualifies.
    """
    version = workspace.ledger.champion(model)
    if version is None:
        raise ModelNotFound(f"The model '{model}' has no champion, so there are no predictions", "Run `openmlops train` first")
    identity = new_id()
    wanted, draw = _draw(workspace, model, version, identity)
    if not wanted.uncertain and not wanted.random:
        problem = f"None of the last {WINDOW} predictions of {model}/{version} is unlabelled with its image still stored"
        raise DataError(problem, "Send images to the server first")
    named = f"{len(wanted.uncertain)} uncertain and {len(wanted.random)} random images of the latest predictions"
    reasons = (f"labels were requested manually: {named}",)
    record = DecisionRecord(
        id=identity, model=model, version=version, at=now, action="collect_labels", reasons=reasons, by=by, labels=wanted
    )
    workspace.decisions.append(record, draw)
    return record


def prediction_record(workspace: Workspace, model: str, prediction: str) -> PredictionRecord:
    """A logged prediction of a model by its id. Raises PredictionNotFound."""
    found = workspace.inference_log.named(model, [prediction])
    if not len(found):
        raise PredictionNotFound(f"The log has no prediction '{prediction[:80]}' of the model '{model}'", "Reload the page")
    classes = found.layout.classes
    (predicted,) = workspace.use_case.task.unpack(found.predictions, len(classes))
    return PredictionRecord(found.ids[0], found.at[0], found.input_sha256[0], predicted, found.labels[0], classes)


def image_of(workspace: Workspace, found: PredictionRecord) -> np.ndarray:
    """The image as it was sent, upright, uint8 (h, w, 3) in its original size. Raises DataError if it is no longer stored."""
    return decode_native(workspace.inputs.read(found.sha256))


def size_of(workspace: Workspace, found: PredictionRecord) -> tuple[int, int]:
    """(height, width) of `image_of`. Raises DataError if it is no longer stored."""
    return upright_size(workspace.inputs.read(found.sha256))


def predicted_boxes(predicted: np.ndarray) -> np.ndarray:
    """A detector's prediction float32 (k, 6) -> the boxes (m, 6) of score >= OPERATING that are at least one pixel wide and
    high, in descending order of score."""
    sides = predicted[:, 2:4] - predicted[:, :2]
    boxes: np.ndarray = predicted[(predicted[:, 4] >= OPERATING) & (sides >= 1).all(axis=1)]
    return boxes


def label_from_boxes(found: PredictionRecord, accepted: Sequence[int], drawn: Sequence[Any]) -> list[Any]:
    """A detection label in the format of POST /feedback: the predicted boxes (rows of `predicted_boxes`) that a person
    accepted, then the drawn ones, {"class": ..., "box": [x1, y1, x2, y2]} in pixels. Raises DataError for an invalid row."""
    boxes = predicted_boxes(found.predicted)
    if bad := [row for row in accepted if not 0 <= row < len(boxes)]:
        raise DataError(f"The prediction has {len(boxes)} boxes, and none in row {bad[0]}", "Reload the page")
    kept = [
        {"class": found.classes[int(box[5])], "box": box[:4].astype(np.float64).tolist()}
        for box in boxes[sorted(set(accepted))]
    ]
    return [*kept, *drawn]


def submit_label(workspace: Workspace, model: str, prediction: str, reported: Any, now: datetime) -> bool:
    """Store the label of a prediction, as POST /feedback does; False if the same label was stored before.

    `reported` is a class index or name, or a list of boxes. Raises PredictionNotFound, DataError if it is not a valid label
    of this image, LabelConflict if another label is stored already: a label is never overwritten.
    """
    found, task = prediction_record(workspace, model, prediction), workspace.use_case.task
    (label,) = task.labels([task.read_label(reported, found.classes)])
    if task.within(label, size_of(workspace, found)) is None:
        raise DataError("A box of the label is outside the image", "Draw it inside the image")
    try:
        return workspace.inference_log.label(prediction, reported, task.read_label, now)
    except LabelConflict as error:
        raise LabelConflict(
            "This image was labelled by someone else in the meantime", "That label is kept; yours was not saved"
        ) from error


def _remaining(workspace: Workspace, record: DecisionRecord) -> LabelRequest:
    predictions = workspace.inference_log.named(record.model, (*record.labels.uncertain, *record.labels.random))
    rows = {name: row for row, name in enumerate(predictions.ids)}
    unlabelled = {name: row for name, row in rows.items() if predictions.labels[row] is None}
    stored = workspace.inputs.held(predictions.input_sha256)
    open_ = tuple(
        RequestedImage(prediction=name, sha256=predictions.input_sha256[row], at=predictions.at[row], why=why)
        for name, why in _interleaved(record.labels)
        if (row := unlabelled.get(name)) is not None and predictions.input_sha256[row] in stored
    )
    return LabelRequest(
        decision=record.id,
        at=record.at,
        by=record.by,
        version=record.version,
        reasons=record.reasons,
        labelled=len(rows) - len(unlabelled),
        not_kept=len(unlabelled) - len(open_),
        open=open_,
        new_labels=workspace.labelled_inputs.count_new(record.model),
        needed=workspace.settings.policy_minimum_new_labels,
    )


def _interleaved(labels: WorthLabelling) -> list[tuple[str, Literal["uncertain", "random"]]]:
    """Uncertain and random alternating, so that a partly processed request has labels of both kinds."""
    pairs = zip_longest(labels.uncertain, labels.random)
    named = chain.from_iterable(((first, "uncertain"), (second, "random")) for first, second in pairs)
    return [(name, why) for name, why in named if name is not None]  # type: ignore[misc]


def _draw(workspace: Workspace, model: str, version: int, decision: str) -> Request:
    """Drawn from the answers that have a label, or could get one: their input is stored."""
    window, k = workspace.inference_log.window(model, version, WINDOW), workspace.settings.policy_labels_to_request
    stored = workspace.inputs.held(window.input_sha256)
    is_known = [label is not None for label in window.labels]
    rows = [row for row, known in enumerate(is_known) if known or window.input_sha256[row] in stored]
    known = np.array([is_known[row] for row in rows], bool)
    open_ = np.flatnonzero(~known)
    if not len(open_):
        return Request(WorthLabelling(), ())
    task, places = workspace.use_case.task, [rows[place] for place in open_]
    margins = task.margin(task.unpack([window.predictions[row] for row in places], len(window.layout.classes)))
    order = least_certain(margins, window.features[places], [window.input_sha256[row] for row in places], k)
    return draw_request([window.ids[row] for row in rows], known, open_[order], k, seed_of(decision))
