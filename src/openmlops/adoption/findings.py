"""What is said of a project: rules, findings and the report. Nothing here reads anything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from openmlops.core.types import Value

if TYPE_CHECKING:
    from openmlops.adoption.project import Project

Certainty = Literal["sure", "look"]
"""sure: the text itself is the defect. look: a possible defect that a person has to review"""

DEFECTS = {
    1: "reference and current data taken from one batch",
    2: "a flag that forces the drift result",
    3: "trained on normalised pixels, monitored on raw ones",
    4: "a cached step with changing inputs",
    5: "the latest model goes live without a gate",
    6: "a registered version without metrics",
    7: "an exit code that is never checked",
    8: "a data pull whose failure is ignored",
    9: "metric names that MLflow rejects",
    10: "model selection on the reported test split",
    11: "a README that contradicts the project's files",
    12: "default passwords, open ports",
    13: "an error reported as 'no drift'",
    14: "fabricated metrics",
}


@dataclass(frozen=True)
class Hit:
    """A place where a rule saw its defect, and what stands there."""

    path: str
    line: int
    certainty: Certainty
    says: str


@dataclass(frozen=True)
class Rule:
    """How one defect is looked for.

    `seen`, `means` and `remedy` are for people and end in no full stop. `subject` is what must be in a project for the rule to
    have anything to look at; `applies` says whether it is.
    """

    name: str
    defect: int
    seen: str
    means: str
    remedy: str
    subject: str
    applies: "Callable[[Project], bool]"
    look: "Callable[[Project], Iterator[Hit]]"


class Finding(Value):
    """One place in the project, what stands there, what it means and what to do. `defect` is one of the fourteen."""

    rule: str
    defect: int
    certainty: Certainty
    path: str
    line: int
    says: str
    means: str
    remedy: str


class NotLookedFor(Value):
    """A rule that found nothing to look at, so that its silence says nothing."""

    rule: str
    defect: int
    why: str


class Report(Value):
    """All that reading a project gave."""

    project: str
    files: int
    unreadable: tuple[str, ...]
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]
    silenced: int
    not_looked_for: tuple[NotLookedFor, ...]

    @property
    def defects(self) -> int:
        """How many findings are sure."""
        return sum(finding.certainty == "sure" for finding in self.findings)
