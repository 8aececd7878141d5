"""The environment of the demo: a running server, its clients, and their counts."""

import threading
from typing import TYPE_CHECKING

from openmlops.demo.scenario import Scenario
from openmlops.demo.telling import AccuracyPoint, DriftPoint, Story, now
from openmlops.operations.simulation.traffic import Stream, TrafficReport, send
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    from openmlops.operations.monitoring.monitor import MonitoringOutcome

WINDOW = 300
"""predictions in a monitoring window"""
CHUNK = 100
"""images per point of the accuracy plot"""
CLEAN, TO_LABEL, TO_MEASURE = 0, 1, 2
"""disjoint parts of the generated field images"""


class World:
    """The running server, its clients, and their counts."""

    def __init__(self, workspace: Workspace, story: Story, scenario: Scenario, url: str) -> None:
        self.workspace, self.story, self.scenario, self.url = workspace, story, scenario, url
        self.reports: list[TrafficReport] = []

    @property
    def failed(self) -> int:
        return sum(report.failed for report in self.reports)

    @property
    def answered(self) -> int:
        return sum(report.answered for report in self.reports)

    def images(self, part: int, count: int, *, corrupted: bool) -> Stream:
        """Generated field images with labels."""
        assert self.workspace.use_case.field is not None
        images, labels = self.workspace.use_case.field(count, part)
        stream = Stream(images, labels, self.workspace.use_case.task)
        return stream.corrupted(*self.scenario.camera, part) if corrupted else stream

    def send(self, part: str, stream: Stream, *, labels: bool = False, stop: threading.Event | None = None) -> float:
        """Send a stream once, or repeatedly until `stop`, in chunks of CHUNK images; returns the mean score of the chunks."""
        right = total = 0.0
        while True:
            for start in range(0, len(stream.images), CHUNK):
                piece = stream.part(slice(start, start + CHUNK))
                rate = self.scenario.rate / 5 if stop else self.scenario.rate
                report = send(self.url, piece, count=len(piece.images), rate=rate, labels=labels, stop=stop)
                self._keep(part, report)
                right += (report.accuracy or 0) * report.answered
                total += report.answered
                if stop and stop.is_set():
                    return right / max(total, 1)
            if stop is None:
                return right / max(total, 1)

    def _keep(self, part: str, report: TrafficReport) -> None:
        self.reports.append(report)
        if report.accuracy is not None and len(report.versions) == 1:
            (version,) = report.versions
            point = AccuracyPoint(at=now(), part=part, version=version, accuracy=report.accuracy, n=report.answered)
            self.story.accuracy.append(point)

    def monitor(self, part: str) -> "MonitoringOutcome":
        """One monitoring run over the last window."""
        from openmlops.pipelines.monitoring_pipeline import run_monitoring

        found = run_monitoring(WINDOW, "log")
        self.note(part, found)
        return found

    def note(self, part: str, found: "MonitoringOutcome") -> None:
        """Record a window for the plot."""
        drift = found.drift
        assert drift.statistic is not None
        assert drift.threshold is not None
        self.story.drift.append(
            DriftPoint(
                at=now(),
                part=part,
                version=found.model.version,
                outcome=drift.outcome,
                statistic=drift.statistic,
                threshold=drift.threshold,
                moved=tuple(column.name for column in drift.columns[:3]),
                action=found.decision.action,
            )
        )

    def lost_records(self) -> int:
        """Number of acknowledged predictions that are not in the log exactly once."""
        log, name = self.workspace.inference_log, self.workspace.model_name
        ids = [identity for report in self.reports for identity in report.ids]
        logged = sum(log.count(name, version) for version in (1, 2))
        return abs(logged - len(set(ids))) + len(ids) - len(set(ids))


def compared(found: "MonitoringOutcome") -> str:
    """A window's statistic and threshold, as text."""
    statistic, threshold = found.drift.statistic, found.drift.threshold
    assert statistic is not None
    assert threshold is not None
    return f"statistic {statistic:.0f}, threshold {threshold:.0f}"
