"""Data and output of the demo: checked facts, and the points that its report plots."""

from datetime import UTC, datetime

from openmlops.core.types import LedgerEntry, Value
from openmlops.errors import OpenMLOpsError
from openmlops.terminal import chapter, say


class Line(Value):
    """One checked fact."""

    topic: str
    text: str


class AccuracyPoint(Value):
    """Accuracy (0 to 1) of one version on `n` consecutive images, and the part of the demo."""

    at: datetime
    part: str
    version: int
    accuracy: float
    n: int


class DriftPoint(Value):
    """One window: drift statistic, calibrated threshold, and decision."""

    at: datetime
    part: str
    version: int
    outcome: str
    statistic: float
    threshold: float
    moved: tuple[str, ...]
    action: str


class Accuracies(Value):
    """Accuracy, or the score that `metric` of the outcome names: on clean traffic, on corrupted traffic before and after
    retraining."""

    clean: float
    degraded: float
    recovered: float


class Champions(Value):
    """Champion before and after the demo."""

    before: int
    after: int


class DemoOutcome(Value):
    """What `openmlops demo --json` prints."""

    drift_on_clean: bool
    drift_on_corrupted: bool
    failed_requests: int
    answered_requests: int
    lost_records: int
    metric: str
    accuracy: Accuracies
    champion: Champions
    seconds: float
    report: str
    folder: str


class Story:
    """Facts, plot points and ledger of a demo run, in order."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.chapters = 0
        self.lines: list[Line] = []
        self.accuracy: list[AccuracyPoint] = []
        self.drift: list[DriftPoint] = []
        self.ledger: tuple[LedgerEntry, ...] = ()

    def chapter(self, title: str) -> None:
        """Print a heading for the following facts."""
        self.chapters += 1
        chapter(f"{self.chapters}. {title}")

    def fact(self, holds: bool, topic: str, text: str) -> None:
        """Record and print a fact if it `holds`. Raises OpenMLOpsError if not: the demo has failed."""
        if not holds:
            raise OpenMLOpsError(
                f"The demo did not produce the expected result: {topic}: {text}", "Please report this as a bug"
            )
        self.lines.append(Line(topic=topic, text=text))
        say(("ok", "green"), f" {topic:<9} {text}")


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(UTC)
