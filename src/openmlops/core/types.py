"""The values that travel: between pipeline steps, into MLflow, over HTTP and out of `--json`.

What is here: small frozen pydantic values, JSON both ways. What is not: images, weights, arrays; those stay in files
and are named by the references (`DatasetRef`, `SplitsRef`, `TrainedRef`, `ExportRef`, `ModelRef`).
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Value(BaseModel):
    """Base of all values: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Interval(Value):
    """An estimate with its confidence interval, all three in the unit of the estimate."""

    value: float
    low: float
    high: float


class DatasetRef(Value):
    """One version of a data set on disk. `fingerprint` is the SHA-256 of its manifest; `rows` counts images."""

    name: str
    path: str
    fingerprint: str
    rows: int


class Problem(Value):
    """One thing that validation found: `what`, `where` (a file), the first five `rows` and how many in all (`count`)."""

    what: str
    where: str
    rows: tuple[int, ...] = ()
    count: int = 1
    blocking: bool = True

    def __str__(self) -> str:
        if self.count == 1 and not self.rows:
            return f"{self.where}: {self.what}"
        listed = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        return f"{self.where}: {self.what} ({self.count} in all{f', rows {listed}' if self.rows else ''})"


class ValidationReport(Value):
    """What was checked and found. `passed` is False when any problem blocks."""

    dataset: DatasetRef
    problems: tuple[Problem, ...] = ()
    class_counts: dict[str, int] = Field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not any(problem.blocking for problem in self.problems)


class SplitsRef(Value):
    """Row indices of the three splits in an `.npz` at `path`; `fingerprint` is the SHA-256 of what they contain."""

    dataset: DatasetRef
    path: str
    fingerprint: str
    seed: int
    train: int
    validation: int
    test: int
    dropped: int = 0


class Preprocessing(Value):
    """What the first layer of the model subtracts and divides by: per channel (RGB), in pixel units 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class EpochMetrics(Value):
    """What one epoch of training measured; each kind of model adds its own. `seconds` counts training only."""

    epoch: int
    loss: float
    learning_rate: float
    seconds: float

    def line(self) -> str:
        """The epoch for a person."""
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {self.seconds:.1f} s"


class ClassifierEpoch(EpochMetrics):
    """Of a classifier. Accuracies are shares."""

    train_accuracy: float
    validation_loss: float
    validation_accuracy: float

    def line(self) -> str:
        """The epoch for a person."""
        accuracies = f"accuracy {self.train_accuracy:.3f}  validation {self.validation_accuracy:.3f}"
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {accuracies}  {self.seconds:.1f} s"


class DetectorEpoch(EpochMetrics):
    """Of a detector. `loss` is the sum of the three losses; the validation's figures are shares, its precision and recall
    those of the confidence with the best F1, as YOLO's own."""

    box_loss: float
    class_loss: float
    dfl_loss: float
    validation_precision: float
    validation_recall: float
    validation_map50: float
    validation_map50_95: float

    def line(self) -> str:
        """The epoch for a person."""
        found = f"validation mAP@50 {self.validation_map50:.3f}  mAP@50-95 {self.validation_map50_95:.3f}"
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {found}  {self.seconds:.1f} s"


class TrainedRef(Value):
    """A finished training: weights (safetensors) at `path`, its MLflow run, its data and its resolved configuration."""

    path: str
    run_id: str
    splits: SplitsRef
    config: dict[str, int | float | str | bool | None]
    epochs: int
    seconds: float
    resumed: bool = False


class ClassScore(Value):
    """Precision, recall and F1 of one class (shares), over `n` images that truly are of it."""

    name: str
    precision: float
    recall: float
    f1: float
    n: int


class ClassificationEvaluation(Value):
    """Classification quality on one split. The accuracy interval is Wilson's at 95 %; calibration error is ECE, 15 bins."""

    kind: Literal["classification"] = "classification"
    split: str
    split_fingerprint: str
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    calibration_error: float
    log_loss: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def headline(self) -> tuple[str, Interval]:
        """The one number that this kind of model is judged by, under the name that MLflow shows it with."""
        return "accuracy", Interval(value=self.accuracy, low=self.accuracy_low, high=self.accuracy_high)

    def metrics(self) -> dict[str, float]:
        """What MLflow shows of it, by name."""
        whole = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "calibration_error", "log_loss")
        classes = {f"recall/{score.name}": score.recall for score in self.classes}
        return {name: float(getattr(self, name)) for name in whole} | classes | {"images": float(self.n)}


class DetectionScore(Value):
    """One class (shares), over its `boxes` true boxes; precision and recall at the operating confidence and IoU 0.5."""

    name: str
    map50: float
    map50_95: float
    precision: float
    recall: float
    boxes: int


class DetectionEvaluation(Value):
    """Detection quality on one split of `n` images with `boxes` true boxes. Intervals: bootstrap over images at 95 %."""

    kind: Literal["detection"] = "detection"
    split: str
    split_fingerprint: str
    n: int
    boxes: int
    confidence: float
    """from which a box counts as an answer, for precision, recall and confusion"""
    map50: Interval
    map50_95: Interval
    precision: Interval
    recall: Interval
    classes: tuple[DetectionScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """rows truth, columns answers; the last of each is background"""
    curve: tuple[float, ...]
    """precision at IoU 0.5, mean over classes, at the 101 recalls 0.00, 0.01, ... 1.00"""

    def headline(self) -> tuple[str, Interval]:
        """The one number that this kind of model is judged by, under the name that MLflow shows it with."""
        return "map50", self.map50

    def metrics(self) -> dict[str, float]:
        """What MLflow shows of it, by name."""
        found: dict[str, float] = {"images": float(self.n), "boxes": float(self.boxes)}
        for name in ("map50", "map50_95", "precision", "recall"):
            interval: Interval = getattr(self, name)
            found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return found


Evaluation = ClassificationEvaluation | DetectionEvaluation
"""Told apart by `kind`, also in JSON."""


class ExportRef(Value):
    """A folder with everything one model version consists of, sealed by `manifest.json`; `sha256` is that of the manifest."""

    path: str
    sha256: str
    run_id: str
    parity: float


class ModelRef(Value):
    """One registered version. `sha256` is that of its manifest: two versions with one `sha256` are the same model."""

    name: str
    version: int
    uri: str
    run_id: str
    dataset: str
    sha256: str


class Comparison(Value):
    """Two models on the same images. `difference` is challenger minus opponent, in the unit of the metric."""

    name: str
    opponent: int
    holdout: bool
    n: int
    challenger_score: float
    opponent_score: float
    difference: float
    low: float
    high: float
    p_better: float
    more_labels: int | None = None


class Verdict(Value):
    """What the gate says of a challenger, why in words, and the comparisons behind it."""

    outcome: Literal["promote", "reject", "inconclusive"]
    reasons: tuple[str, ...]
    challenger: int
    champion: int | None
    comparisons: tuple[Comparison, ...] = ()
    more_labels: int | None = None


class LedgerEntry(Value):
    """One row of the ledger. `champion` is who is in production after it; `hash` covers all the rest and `previous`."""

    model: str
    sequence: int
    kind: Literal["promote", "reject", "inconclusive", "rollback"]
    version: int
    champion: int | None
    at: datetime
    actor: str
    reasons: tuple[str, ...]
    dataset: str
    model_sha256: str
    verdict: Verdict | None = None
    previous: str
    hash: str


class Champion(Value):
    """Who is in production; `version` is None when nobody is."""

    version: int | None


class TrainingOutcome(Value):
    """What one training pipeline came to: the object that `openmlops train --json` prints."""

    model: ModelRef
    run_id: str
    dataset: DatasetRef
    evaluation: Evaluation = Field(discriminator="kind")
    verdict: Verdict
    champion: Champion

    @classmethod
    def of(cls, dataset: DatasetRef, evaluation: Evaluation, model: ModelRef, decision: LedgerEntry) -> "TrainingOutcome":
        """Put together what the steps returned. The decision of a gate always carries its verdict."""
        assert decision.verdict is not None
        return cls(
            model=model,
            run_id=model.run_id,
            dataset=dataset,
            evaluation=evaluation,
            verdict=decision.verdict,
            champion=Champion(version=decision.champion),
        )
