"""JSON schemas, for parsing requests and for the OpenAPI document. Responses are serialized by hand, which is faster."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from openmlops.core.detection.task import MOST_BOXES
from openmlops.core.types import Value
from openmlops.errors import one_line

MOST_OF_A_REASON = 500
"""characters"""


class ServedModel(Value):
    """The model version that made the prediction."""

    name: str
    version: int


class PredictionAnswer(Value):
    """The prediction for one image. `probabilities` are keyed by class name."""

    prediction_id: str
    model: ServedModel
    label: int
    class_name: str
    probability: float
    probabilities: dict[str, float]


class DetectionAnswer(Value):
    """A detector's prediction for one image: boxes (x1, y1, x2, y2 in image pixels), highest score first, with the score, the
    class index and the class name of each."""

    prediction_id: str
    model: ServedModel
    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]
    classes: list[str]


class PredictionAnswers(Value):
    """The predictions for the images of a multipart request, in request order."""

    predictions: list[PredictionAnswer | DetectionAnswer]


class TrueBox(Value):
    """One true box: a class by index or by name, and x1, y1, x2, y2 in image pixels."""

    label: StrictInt | StrictStr = Field(alias="class")
    box: list[StrictFloat | StrictInt] = Field(min_length=4, max_length=4)


class Feedback(Value):
    """The true label of a prediction: a class by index or by name, or all true boxes; an empty list if there are none."""

    prediction_id: str = Field(pattern="^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    label: StrictInt | StrictStr | Annotated[list[TrueBox], Field(max_length=MOST_BOXES)]

    def plain_label(self) -> Any:
        """The label in the format that the task parses."""
        if isinstance(self.label, list):
            return [box.model_dump(by_alias=True) for box in self.label]
        return self.label


class FeedbackAnswer(Value):
    """`recorded` is false if the prediction already had this label."""

    prediction_id: str
    recorded: bool


class Trigger(Value):
    """Requests a cycle from the watchers, with a reason; or the body of a webhook of Alertmanager, whose alerts are the reason.
    Other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    reason: StrictStr | None = Field(None, min_length=1, max_length=500)
    status: Any = None
    alerts: Any = None

    @model_validator(mode="after")
    def _require_reason(self) -> "Trigger":
        if not self.told():
            raise ValueError("it must say why, or be a webhook of Alertmanager with alerts")
        return self

    def told(self) -> str:
        """The reason; of Alertmanager's alerts, what they say of themselves. Empty if there is none."""
        if self.reason:
            return self.reason
        alerts = self.alerts if isinstance(self.alerts, list) else []
        said = [text for alert in alerts if (text := _said_by(alert))]
        state = self.status if self.status in ("firing", "resolved") else "firing"
        return f"Alertmanager, {state}: {'; '.join(dict.fromkeys(said))}"[:MOST_OF_A_REASON] if said else ""


def _said_by(alert: Any) -> str:
    """An alert's summary, else its description, else its name."""
    parts = [alert.get(name) for name in ("annotations", "labels")] if isinstance(alert, dict) else []
    found = {name: text for part in parts if isinstance(part, dict) for name, text in part.items() if isinstance(text, str)}
    return next((one_line(found[name]) for name in ("summary", "description", "alertname") if found.get(name)), "")


class TriggerAnswer(Value):
    """The id under which the request is recorded among the decisions."""

    decision_id: str


class Problem(Value):
    """An error, after RFC 9457. Under /v2, `error` repeats `detail`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str | None = None


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _schema(kind: type[Value]) -> dict[str, Any]:
    """The JSON schema of a value with `$defs` inlined: references to them would not resolve in the OpenAPI document."""
    schema = kind.model_json_schema(ref_template="{model}")
    parts = schema.pop("$defs", {})

    def whole(found: Any) -> Any:
        if isinstance(found, list):
            return [whole(one) for one in found]
        if not isinstance(found, dict):
            return found
        return whole(parts[found["$ref"]]) if "$ref" in found else {name: whole(one) for name, one in found.items()}

    resolved: dict[str, Any] = whole(schema)
    return resolved


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILES = {"type": "object", "additionalProperties": {"type": "array", "items": _BINARY["schema"]}, "minProperties": 1}

PREDICT_BODY = _body({"image/*": _BINARY, "multipart/form-data": {"schema": _FILES}})
PREDICT_PARAMETERS = {
    "parameters": [
        {
            "name": "draw",
            "in": "query",
            "description": "1: return the image as PNG with the detected boxes drawn on it; single image, detectors only",
            "schema": {"type": "string", "enum": ["0", "1"]},
        }
    ]
}
PICTURE: dict[str, Any] = {"content": {"image/png": _BINARY}}
FEEDBACK_BODY = _body({"application/json": {"schema": _schema(Feedback)}})
TRIGGER_BODY = _body({"application/json": {"schema": _schema(Trigger)}})
INFER_BODY = _body(
    {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "id": {"type": "string"},
                    "parameters": {"type": "object"},
                    "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
                    "outputs": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
        "application/octet-stream": _BINARY,
    }
)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented error responses of a route."""
    content = {"application/problem+json": {"schema": _schema(Problem)}}
    return {status: {"description": "Problem details (RFC 9457)", "content": content} for status in statuses}
