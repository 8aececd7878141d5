"""What the demo tells and gathers: lines that were checked, and the points that its report draws."""

from datetime import UTC, datetime

from openmlops.core.types import LedgerEntry, Value
from openmlops.errors import OpenMLOpsError
from openmlops.terminal import chapter, say


class Line(Value):
    """One fact, checked when it was told."""

    topic: str
    text: str


class AccuracyPoint(Value):
    """How many of `n` images in a row were answered right (a share), by which version, in which part of the story."""

    at: datetime
    part: str
    version: int
    accuracy: float
    n: int


class DriftPoint(Value):
    """One window: the statistic and its calibrated threshold, and what was decided."""

    at: datetime
    part: str
    version: int
    outcome: str
    statistic: float
    threshold: float
    moved: tuple[str, ...]
    action: str


class Accuracies(Value):
    """Shares of right answers, or what `metric` of the outcome says: clean traffic, corrupted traffic before, and after the
    retraining."""

    clean: float
    degraded: float
    recovered: float


class Champions(Value):
    """Version in production before and after."""

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
    """Lines, points and ledger, in the order in which they came."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.chapters = 0
        self.lines: list[Line] = []
        self.accuracy: list[AccuracyPoint] = []
        self.drift: list[DriftPoint] = []
        self.ledger: tuple[LedgerEntry, ...] = ()

    def chapter(self, title: str) -> None:
        """What the next lines are about."""
        self.chapters += 1
        chapter(f"{self.chapters}. {title}")

    def fact(self, holds: bool, topic: str, text: str) -> None:
        """Tell a line if it is true. Raises OpenMLOpsError if it is not: then the demo has failed."""
        if not holds:
            raise OpenMLOpsError(f"The demo came out differently than it must: {topic}: {text}", "Please report it")
        self.lines.append(Line(topic=topic, text=text))
        say(f"[green]ok[/] {topic:<9} {text}")


def now() -> datetime:
    """The clock of the story."""
    return datetime.now(UTC)
