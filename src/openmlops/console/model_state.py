"""What the ledger and the decisions say of a model, read once for a part of a page: who reigns, since when, what was seen."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from openmlops.adapters.decisions import DecisionRecord
from openmlops.core.monitoring.policy import Observation
from openmlops.core.types import Comparison, Interval, LedgerEntry
from openmlops.operations.workspace import Workspace

HISTORY_LENGTH = 200
"""decisions that a page looks back at"""


@dataclass(frozen=True)
class ModelState:
    """The ledger, whole and checked, and the latest decisions, oldest first."""

    model: str
    entries: tuple[LedgerEntry, ...]
    records: tuple[DecisionRecord, ...]

    @cached_property
    def promotion(self) -> LedgerEntry | None:
        """The row that made the champion of now; None if there is no champion."""
        made = [entry for entry in self.entries if entry.kind in ("promote", "rollback")]
        return made[-1] if made else None

    @property
    def champion(self) -> int | None:
        """The version in production."""
        return self.promotion.version if self.promotion else None

    @property
    def since(self) -> datetime | None:
        """Since when it has been."""
        return self.promotion.at if self.promotion else None

    @cached_property
    def observations(self) -> tuple[tuple[DecisionRecord, Observation], ...]:
        """Every window that was looked at, with its decision."""
        return tuple((record, record.observation) for record in self.records if record.observation)

    @cached_property
    def latest(self) -> tuple[DecisionRecord, Observation] | None:
        """The last window of the champion since it reigns; None if none was looked at."""
        since = self.since
        seen = [each for each in self.observations if since and each[1].version == self.champion and each[1].at >= since]
        return seen[-1] if seen else None

    @property
    def is_alarmed(self) -> bool:
        """Whether the champion's last window shows drift."""
        return self.latest is not None and self.latest[1].drift.outcome == "drift"

    def versions(self) -> tuple[int, ...]:
        """Every version that came to the gate, in order of number."""
        return tuple(sorted({entry.version for entry in self.entries}))

    def gate_entry(self, version: int) -> LedgerEntry | None:
        """The gate's last verdict on a version."""
        found = [entry for entry in self.entries if entry.version == version and entry.verdict]
        return found[-1] if found else None

    def stands_as(self, version: int) -> str:
        """`champion`, `former champion`, or what the gate said last."""
        if version == self.champion:
            return "champion"
        if any(entry.champion == version for entry in self.entries):
            return "former champion"
        entry = self.gate_entry(version)
        return {"reject": "rejected", "inconclusive": "inconclusive"}.get(entry.kind, "") if entry else "never at the gate"


def read(workspace: Workspace, model: str) -> ModelState:
    """Raises LedgerCorrupt, ServiceUnavailable."""
    return ModelState(model, workspace.ledger.history(model), workspace.decisions.list(model, HISTORY_LENGTH))


def gate_score(entry: LedgerEntry) -> tuple[float, Comparison] | None:
    """What the gate itself measured of a version on the holdout."""
    found = [c for c in entry.verdict.comparisons if c.holdout] if entry.verdict else []
    return (found[0].challenger_score, found[0]) if found else None


def difference(compared: Comparison) -> Interval:
    """Challenger minus opponent."""
    return Interval(value=compared.difference, low=compared.low, high=compared.high)
