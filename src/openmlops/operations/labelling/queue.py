"""Labelling by people: which production images are worth a label now, making such a request by hand, and giving one label.

A request is a `collect_labels` decision; it stands until a later decision retrains or rolls back. A label joins the log as one
that POST /feedback brings. What is not here: which images a request names (`core.policy`), the pages (`console.labelling`), and
training on labels (`new_data`).
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from openmlops.adapters.decisions import DecisionRecord, new_id
from openmlops.core.detection.evaluation import OPERATING
from openmlops.core.images.decoding import decode_native, image_size
from openmlops.core.monitoring.policy import WorthLabelling, worth_labelling
from openmlops.core.types import Value
from openmlops.errors import DataError, LabelConflict, ModelNotFound, PredictionNotFound
from openmlops.operations.workspace import Workspace

REQUEST_ACTIONS = ("collect_labels", "retrain", "roll_back")
"""decisions of which the latest says whether labels are asked for"""
WINDOW = 500
"""latest answers among which a request that is made by hand chooses"""


class RequestedImage(Value):
    """One answered image that a request names, because the model was `uncertain` or by the draw (`random`)."""

    prediction: str
    sha256: str
    at: datetime
    why: Literal["uncertain", "random"]


class LabelRequest(Value):
    """A request and what is left of it.

    `open` are its images that have no label and whose input is kept, uncertain and random in turn; `not_kept` counts those that
    nobody can look at any more. `new_labels` are the labels, also from elsewhere, that no training has used, of `needed`.
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
        """How many images it names."""
        return self.labelled + self.not_kept + len(self.open)

    def after(self, prediction: str) -> RequestedImage | None:
        """The open image that follows one of this request in its order, beginning again at the end; None if none is open."""
        names = [wanted.prediction for wanted in self.open]
        start = names.index(prediction) + 1 if prediction in names else 0
        return self.open[start % len(names)] if names else None


class PredictionRecord(NamedTuple):
    """One prediction: what was answered and when, as its task calls answers; its label as JSON; names of its classes."""

    prediction: str
    at: datetime
    sha256: str
    predicted: np.ndarray
    label: str | None
    classes: tuple[str, ...]


def current_request(workspace: Workspace, model: str) -> LabelRequest | None:
    """The request that stands, with what is left of it; None if labels are not asked for."""
    latest = workspace.decisions.latest(model, REQUEST_ACTIONS)
    return _remaining(workspace, latest) if latest and latest.action == "collect_labels" else None


def request_labels(workspace: Workspace, model: str, by: str, now: datetime) -> DecisionRecord:
    """Make a request by hand, of the champion's last answers that have no label and whose input is kept.

    It is kept as a decision, so that accuracy is never measured on the half that was chosen because the model was unsure.
    Raises ModelNotFound without a champion, DataError if there is nothing to ask for.
    """
    version = workspace.ledger.champion(model)
    if version is None:
        raise ModelNotFound(f"The model '{model}' has no champion, so nothing was answered", "Run `openmlops train` first")
    wanted = _worth_labelling(workspace, model, version)
    if not wanted.uncertain and not wanted.random:
        problem = f"None of the last {WINDOW} answers of {model}/{version} is without a label and has its image kept"
        raise DataError(problem, "Send images to the server first")
    named = f"{len(wanted.uncertain)} uncertain and {len(wanted.random)} random images of the last answers are named"
    reasons = (f"labels were asked for by hand: {named}",)
    record = DecisionRecord(
        id=new_id(), model=model, version=version, at=now, action="collect_labels", reasons=reasons, by=by, labels=wanted
    )
    workspace.decisions.append(record)
    return record


def prediction_record(workspace: Workspace, model: str, prediction: str) -> PredictionRecord:
    """One prediction of a model. Raises PredictionNotFound."""
    found = workspace.inference_log.named(model, [prediction])
    if not len(found):
        raise PredictionNotFound(f"The log has no prediction '{prediction[:80]}' of the model '{model}'", "Open the page again")
    classes = found.layout.classes
    (predicted,) = workspace.use_case.task.unpack(found.predictions, len(classes))
    return PredictionRecord(found.ids[0], found.at[0], found.input_sha256[0], predicted, found.labels[0], classes)


def image_of(workspace: Workspace, found: PredictionRecord) -> np.ndarray:
    """The image that was sent, uint8 (h, w, 3), in its own size. Raises DataError if it is not kept any more."""
    return decode_native(workspace.inputs.read(found.sha256))


def size_of(workspace: Workspace, found: PredictionRecord) -> tuple[int, int]:
    """Its (height, width), without decoding it. Raises DataError if it is not kept any more."""
    return image_size(workspace.inputs.read(found.sha256))


def predicted_boxes(predicted: np.ndarray) -> np.ndarray:
    """A detector's answer float32 (k, 6) -> the boxes that count, at least a pixel wide and high: (m, 6), the surest first."""
    sides = predicted[:, 2:4] - predicted[:, :2]
    boxes: np.ndarray = predicted[(predicted[:, 4] >= OPERATING) & (sides >= 1).all(axis=1)]
    return boxes


def label_from_boxes(found: PredictionRecord, accepted: Sequence[int], drawn: Sequence[Any]) -> list[Any]:
    """What a client would tell of a detector's image: the boxes of `answered_boxes` in these rows as they were answered, then
    the drawn ones, {"class": ..., "box": [x1, y1, x2, y2]}. Raises DataError for a row that there is not."""
    boxes = predicted_boxes(found.predicted)
    if bad := [row for row in accepted if not 0 <= row < len(boxes)]:
        raise DataError(f"The answer has {len(boxes)} boxes, none in row {bad[0]}", "Open the page again")
    kept = [{"class": int(box[5]), "box": box[:4].astype(np.float64).tolist()} for box in boxes[sorted(set(accepted))]]
    return [*kept, *drawn]


def submit_label(workspace: Workspace, model: str, prediction: str, reported: Any, now: datetime) -> bool:
    """Join a label to a prediction of this model, as POST /feedback does; False if the very same label had joined before.

    `told` is a class by index or name, or a list of boxes. Raises PredictionNotFound, DataError for what is no label of this
    image, LabelConflict if it has another label already: labels join once.
    """
    found, task = prediction_record(workspace, model, prediction), workspace.use_case.task
    (label,) = task.labels([task.read_label(reported, found.classes)])
    if task.within(label, image_of(workspace, found)) is None:
        raise DataError("A box of the label lies outside of its image", "Draw it on the image")
    try:
        return workspace.inference_log.label(prediction, reported, task.read_label, now)
    except LabelConflict as error:
        raise LabelConflict("This image was labelled elsewhere meanwhile", "That label stays, yours was not kept") from error


def _remaining(workspace: Workspace, record: DecisionRecord) -> LabelRequest:
    predictions = workspace.inference_log.named(record.model, (*record.labels.uncertain, *record.labels.random))
    rows = {name: row for row, name in enumerate(predictions.ids)}
    unlabelled = {name: row for name, row in rows.items() if predictions.labels[row] is None}
    open_ = tuple(
        RequestedImage(prediction=name, sha256=predictions.input_sha256[row], at=predictions.at[row], why=why)
        for name, why in _interleaved(record.labels)
        if (row := unlabelled.get(name)) is not None and workspace.inputs.holds(predictions.input_sha256[row])
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
    """Uncertain, random, uncertain, ...: who stops early has labelled some of both."""
    pairs = zip_longest(labels.uncertain, labels.random)
    named = chain.from_iterable(((first, "uncertain"), (second, "random")) for first, second in pairs)
    return [(name, why) for name, why in named if name is not None]  # type: ignore[misc]


def _worth_labelling(workspace: Workspace, model: str, version: int) -> WorthLabelling:
    window = workspace.inference_log.window(model, version, WINDOW)
    rows = [
        row for row, label in enumerate(window.labels) if label is None and workspace.inputs.holds(window.input_sha256[row])
    ]
    if not rows:
        return WorthLabelling()
    task = workspace.use_case.task
    margins = task.margin(task.unpack([window.predictions[row] for row in rows], len(window.layout.classes)))
    return worth_labelling([window.ids[row] for row in rows], margins, workspace.settings.policy_labels_to_request)
