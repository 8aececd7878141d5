"""Metrics as values: of each epoch, of an evaluation, for each task; and the result of a training pipeline.

What is not here: how they are computed (`classification.metrics`, `detection.evaluation`).
"""

from typing import Literal

from pydantic import Field

from openmlops.core.types import (
    Champion,
    CrossValidation,
    DatasetRef,
    HoldoutPower,
    Interval,
    LedgerEntry,
    ModelRef,
    TrainedRef,
    Value,
    Verdict,
)


class EpochMetrics(Value):
    """Metrics of one epoch; each task adds its own. `seconds` counts training only."""

    epoch: int
    loss: float
    learning_rate: float
    seconds: float

    @property
    def score(self) -> float:
        """What trials of a search are compared by while they run; more is better."""
        return -self.loss

    def line(self) -> str:
        """The epoch as one line of text."""
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {self.seconds:.1f} s"


class ClassifierEpoch(EpochMetrics):
    """Metrics of one epoch of a classifier. Accuracies are in 0..1."""

    train_accuracy: float
    validation_loss: float
    validation_accuracy: float

    @property
    def score(self) -> float:
        """Accuracy on the validation split."""
        return self.validation_accuracy

    def line(self) -> str:
        """The epoch as one line of text."""
        accuracies = f"accuracy {self.train_accuracy:.3f}  validation {self.validation_accuracy:.3f}"
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {accuracies}  {self.seconds:.1f} s"


class DetectorEpoch(EpochMetrics):
    """Metrics of one epoch of a detector. `loss` is the sum of the three losses; validation metrics are in 0..1, precision and
    recall at the confidence with the best F1, as YOLO reports them."""

    box_loss: float
    class_loss: float
    dfl_loss: float
    validation_precision: float
    validation_recall: float
    validation_map50: float
    validation_map50_95: float

    @property
    def score(self) -> float:
        """mAP@50 on the validation split."""
        return self.validation_map50

    def line(self) -> str:
        """The epoch as one line of text."""
        found = f"validation mAP@50 {self.validation_map50:.3f}  mAP@50-95 {self.validation_map50_95:.3f}"
        return f"epoch {self.epoch:>3}  loss {self.loss:.3f}  {found}  {self.seconds:.1f} s"


class ClassScore(Value):
    """Precision, recall and F1 (0..1) of one class, which has `n` images."""

    name: str
    precision: float
    recall: float
    f1: float
    n: int


class ClassificationEvaluation(Value):
    """Classification metrics of one split. The accuracy interval is Wilson's at 95 %; calibration error is ECE, 15 bins."""

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
        """The primary metric, by the name that it has in MLflow."""
        return "accuracy", Interval(value=self.accuracy, low=self.accuracy_low, high=self.accuracy_high)

    def metrics(self) -> dict[str, float]:
        """The metrics that are logged to MLflow, by name."""
        whole = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "calibration_error", "log_loss")
        classes = {f"recall/{score.name}": score.recall for score in self.classes}
        return {name: float(getattr(self, name)) for name in whole} | classes | {"images": float(self.n)}


class DetectionScore(Value):
    """Metrics (0..1) of one class with `boxes` true boxes; precision and recall at the operating confidence and IoU 0.5."""

    name: str
    map50: float
    map50_95: float
    precision: float
    recall: float
    boxes: int


class DetectionEvaluation(Value):
    """Detection metrics of one split of `n` images with `boxes` true boxes. Intervals: bootstrap over images at 95 %."""

    kind: Literal["detection"] = "detection"
    split: str
    split_fingerprint: str
    n: int
    boxes: int
    confidence: float
    """operating point: the minimum confidence of a box for precision, recall and confusion"""
    map50: Interval
    map50_95: Interval
    precision: Interval
    recall: Interval
    classes: tuple[DetectionScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """rows are true classes, columns predicted ones; the last of each is background"""
    curve: tuple[float, ...]
    """precision at IoU 0.5, mean over classes, at the 101 recalls 0.00, 0.01, ... 1.00"""

    def headline(self) -> tuple[str, Interval]:
        """The primary metric, by the name that it has in MLflow."""
        return "map50", self.map50

    def metrics(self) -> dict[str, float]:
        """The metrics that are logged to MLflow, by name."""
        found: dict[str, float] = {"images": float(self.n), "boxes": float(self.boxes)}
        for name in ("map50", "map50_95", "precision", "recall"):
            interval: Interval = getattr(self, name)
            found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return found


Evaluation = ClassificationEvaluation | DetectionEvaluation
"""A union discriminated by `kind`, in JSON too."""


class TrainingOutcome(Value):
    """The result of a training pipeline: the object that `openmlops train --json` prints. `holdout` is what the test split can
    decide; `cross_validation` is None without `--folds`."""

    model: ModelRef
    run_id: str
    dataset: DatasetRef
    evaluation: Evaluation = Field(discriminator="kind")
    verdict: Verdict
    champion: Champion
    holdout: HoldoutPower
    cross_validation: CrossValidation | None = None

    @classmethod
    def of(
        cls, trained: TrainedRef, evaluation: Evaluation, model: ModelRef, decision: LedgerEntry, holdout: HoldoutPower
    ) -> "TrainingOutcome":
        """Combine the outputs of the pipeline's steps. The gate's decision always carries its verdict."""
        assert decision.verdict is not None
        return cls(
            model=model,
            run_id=model.run_id,
            dataset=trained.splits.dataset,
            evaluation=evaluation,
            verdict=decision.verdict,
            champion=Champion(version=decision.champion),
            holdout=holdout,
            cross_validation=trained.cross_validation,
        )
