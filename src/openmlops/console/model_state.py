"""State of a model from ledger and decisions, read once per part of a page: champion, its promotion, observed windows."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from openmlops.adapters.decisions import DecisionRecord
from openmlops.core.gate.states import state_of
from openmlops.core.monitoring.policy import Observation
from openmlops.core.types import Comparison, Interval, LedgerEntry
from openmlops.operations.monitoring.history import is_since
from openmlops.operations.workspace import Workspace

HISTORY_LENGTH = 200
"""latest decisions that a page reads"""


@dataclass(frozen=True)
class ModelState:
    """The verified ledger and the latest decisions, oldest first."""

    model: str
    entries: tuple[LedgerEntry, ...]
    records: tuple[DecisionRecord, ...]

    @cached_property
    def promotion(self) -> LedgerEntry | None:
        """The ledger entry that promoted the current champion; None if there is none."""
        made = [entry for entry in self.entries if entry.is_change]
        return made[-1] if made else None

    @property
    def champion(self) -> int | None:
        """The version in production."""
        return self.promotion.version if self.promotion else None

    @property
    def since(self) -> datetime | None:
        """When the champion was promoted."""
        return self.promotion.at if self.promotion else None

    @cached_property
    def observations(self) -> tuple[tuple[DecisionRecord, Observation], ...]:
        """Every evaluated window, with its decision."""
        return tuple((record, record.observation) for record in self.records if record.observation)

    @cached_property
    def latest(self) -> tuple[DecisionRecord, Observation] | None:
        """The last window of the champion since its promotion; None if none was evaluated."""
        made = self.promotion
        seen = [each for each in self.observations if made and each[1].version == self.champion and is_since(made, each[0])]
        return seen[-1] if seen else None

    @cached_property
    def last_seen(self) -> tuple[DecisionRecord, Observation] | None:
        """The last window of the champion, if need be from when it was in production before: a rollback cures nothing."""
        seen = [each for each in self.observations if each[1].version == self.champion]
        return self.latest or (seen[-1] if seen else None)

    @property
    def is_alarmed(self) -> bool:
        """Whether the champion's last window shows drift."""
        return self.last_seen is not None and self.last_seen[1].drift.outcome == "drift"

    def versions(self) -> tuple[int, ...]:
        """Every version that the gate evaluated, in ascending order."""
        return tuple(sorted({entry.version for entry in self.entries}))

    def gate_entry(self, version: int) -> LedgerEntry | None:
        """The gate's last verdict on a version."""
        found = [entry for entry in self.entries if entry.version == version and entry.verdict]
        return found[-1] if found else None

    def stands_as(self, version: int) -> str:
        """Its state, in the words of `core.gate.states`."""
        return state_of(self.entries, version)


def read(workspace: Workspace, model: str) -> ModelState:
    """Read the state of a model. Raises LedgerCorrupt, ServiceUnavailable."""
    return ModelState(model, workspace.ledger.history(model), workspace.decisions.list(model, HISTORY_LENGTH))


def gate_score(entry: LedgerEntry) -> tuple[float, Comparison] | None:
    """The score of a version that the gate measured on the holdout, and the comparison; None without one."""
    found = [c for c in entry.verdict.comparisons if c.holdout] if entry.verdict else []
    return (found[0].challenger_score, found[0]) if found else None


def difference(compared: Comparison) -> Interval:
    """The difference of scores, challenger minus opponent, with its interval."""
    return Interval(value=compared.difference, low=compared.low, high=compared.high)
