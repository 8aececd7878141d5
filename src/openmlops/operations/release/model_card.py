"""Metadata of a model version: `Description` (JSON) and the model card (Markdown).

Neither contains a run, time or host, so that identical trainings produce identical files; the registry has those.
"""

from pathlib import Path

from pydantic import Field, ValidationError

from openmlops.core.quality import ClassificationEvaluation, DetectionEvaluation, Evaluation
from openmlops.core.types import CrossValidation, Interval, Preprocessing, Value
from openmlops.errors import ModelCorrupt
from openmlops.plain import in_markdown

WEAK_CLASSES = 3
DESCRIPTION_FILE = "model.json"
CARD_FILE = "model_card.md"


class Description(Value):
    """`model.json` of a version. `image_shape` is (height, width, 3); `dataset` and `split` are fingerprints; `parity` is the
    largest difference of outputs between trained and exported model."""

    use_case: str
    model: str
    about: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dataset: str
    dataset_rows: int
    split: str
    split_seed: int
    train_rows: int
    validation_rows: int
    test_rows: int
    config: dict[str, int | float | str | bool | None]
    preprocessing: Preprocessing
    parity: float
    temperature: float = 1.0
    """by what the logits of a classifier are divided, so that its probabilities are calibrated; 1 in earlier releases"""
    origin: str = ""
    """source and licence of the pretrained weights, in a sentence"""
    kept: str = ""
    """which stage of the training the weights are of, and what the others scored on validation"""
    evaluation: Evaluation = Field(discriminator="kind")
    cross_validation: CrossValidation | None = None

    @classmethod
    def read(cls, path: Path) -> "Description":
        """Read a description file. Raises ModelCorrupt if it is missing or invalid."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            problem = f"{path} does not describe a model ({type(error).__name__})"
            raise ModelCorrupt(problem, "Fetch the version again, or retrain") from error


def model_card(found: Description) -> str:
    """The card as Markdown."""
    return "\n\n".join((_head(found), _quality(found), _slices(found), _lineage(found), _limits(found))) + "\n"


def _head(d: Description) -> str:
    height, width, _ = d.image_shape
    predictions = {
        "classification": ("one of {} as output", "`logits`, `probabilities` and `embedding`, float32"),
        "detection": (
            "boxes of {} as output",
            "`boxes` (n, candidates, 4: x1, y1, x2, y2 in pixels of the input), `scores` (n, candidates, classes) and\n"
            "  `embedding`, float32. Non-maximum suppression is not part of the file; `/predict` applies it",
        ),
    }
    out, output = predictions[d.evaluation.kind]
    classes = "1 class" if len(d.classes) == 1 else f"{len(d.classes)} classes"
    return f"""# {d.model}

A model of the use case `{d.use_case}`: images of {width}x{height} pixels as input, {out.format(classes)}.

- **Classes:** {", ".join(map(in_markdown, d.classes))}
- **Input:** `images`, uint8 (n, {height}, {width}, 3), RGB, raw pixels. Normalisation is the model's first layer:
  mean {_numbers(d.preprocessing.mean)}, standard deviation {_numbers(d.preprocessing.std)} (pixel units, 0 to 255).
- **Output:** {output}.
- **Files:** `model.onnx` is served; on `golden.npz` its outputs differ from the trained model's by at most {d.parity:.1e}."""


def _quality(d: Description) -> str:
    e = d.evaluation
    rows, of = _detector_rows(e) if isinstance(e, DetectionEvaluation) else _classifier_rows(e)
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""## Quality

On the {in_markdown(e.split)} split ({e.n:,} images), which was not used for model selection. 95 % intervals: {of}.

| metric | value |
|---|---|
{table}{_cross_validation(d.cross_validation)}"""


def _cross_validation(found: CrossValidation | None) -> str:
    if found is None:
        return ""
    score = f"{found.score.value:.4f} [{found.score.low:.4f}, {found.score.high:.4f}]"
    return f"""

Cross-validation with {found.folds} folds: {found.metric} {score} on {found.images:,} training and validation images, each
predicted by a model that was trained in the same way without it and its copies. This version is not one of those models:
its weights are of the ordinary split. The interval (95 %) is widened because the models share training images, and assumes that
images are independent."""


def _classifier_rows(e: ClassificationEvaluation) -> tuple[tuple[tuple[str, str], ...], str]:
    return (
        ("accuracy", f"{e.accuracy:.4f} [{e.accuracy_low:.4f}, {e.accuracy_high:.4f}]"),
        ("macro F1", f"{e.macro_f1:.4f}"),
        ("calibration error (15 bins)", f"{e.calibration_error:.4f}"),
        ("log loss", f"{e.log_loss:.4f}"),
    ), "Wilson score"


def _detector_rows(e: DetectionEvaluation) -> tuple[tuple[tuple[str, str], ...], str]:
    def row(name: str, found: Interval) -> tuple[str, str]:
        return name, f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"

    return (
        row("mAP@50", e.map50),
        row("mAP@50-95", e.map50_95),
        row(f"precision (confidence {e.confidence:g}, IoU 0.5)", e.precision),
        row(f"recall (confidence {e.confidence:g}, IoU 0.5)", e.recall),
    ), "bootstrap over images"


def _slices(d: Description) -> str:
    e = d.evaluation
    if isinstance(e, DetectionEvaluation):
        head = ["| class | mAP@50 | mAP@50-95 | precision | recall | boxes |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {in_markdown(s.name)} | {s.map50:.3f} | {s.map50_95:.3f} | {s.precision:.3f} | {s.recall:.3f} | {s.boxes} |"
            for s in e.classes
        ]
    else:
        head = ["| class | precision | recall | F1 | images |", "|---|---|---|---|---|"]
        rows = [f"| {in_markdown(s.name)} | {s.precision:.3f} | {s.recall:.3f} | {s.f1:.3f} | {s.n} |" for s in e.classes]
    return "\n".join(["## Per class", "", *head, *rows])


def _lineage(d: Description) -> str:
    origin = f" {d.origin} Its licence applies to them too." if d.origin else ""
    kept = f"\n- **Weights:** {d.kept}." if d.kept else ""
    if d.temperature != 1:
        kept += (
            f"\n- **Calibration:** logits are divided by {d.temperature:g}, the temperature that fits the validation images."
        )
    config = "\n".join(f"| {in_markdown(name)} | {in_markdown(value)} |" for name, value in sorted(d.config.items()))
    return f"""## Lineage

- **Data:** version `{d.dataset}` ({d.dataset_rows:,} images).
- **Split:** `{d.split}`, seed {d.split_seed}: {d.train_rows:,} training, {d.validation_rows:,} validation,
  {d.test_rows:,} test images.{kept}
- **Run, commit and environment:** see the MLflow run of this version.

| setting | value |
|---|---|
{config}

## Licence

The weights derive from the data version named above, and its terms apply to their use. Original data set of this
use case: {in_markdown(d.about)} Samples and your own images have their own terms.{origin}"""


def _limits(d: Description) -> str:
    recalls = [(score.recall, score.name) for score in d.evaluation.classes]
    named = ", ".join(f"{in_markdown(name)} (recall {recall:.0%})" for recall, name in sorted(recalls)[:WEAK_CLASSES])
    names = ", ".join(map(in_markdown, d.classes))
    unable = {
        "classification": f"It predicts one of its {len(d.classes)} classes for every image, even if it shows none of them.",
        "detection": f"It detects only {names}; missed objects leave no trace in its predictions.",
    }
    return f"""## Limits

- {unable[d.evaluation.kind]}
- Weakest classes: {named}.
- The metrics hold for images like those of the test split. `reference.parquet` describes those images' features;
  monitoring compares production traffic with it."""


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in values) + ")"
