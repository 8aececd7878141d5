"""Types of the analysis: rules, findings and the report. Does no I/O."""

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
    """A place where a rule found its defect, and what is there."""

    path: str
    line: int
    certainty: Certainty
    says: str


@dataclass(frozen=True)
class Rule:
    """A rule that detects one defect.

    `seen`, `means` and `remedy` are texts without a final full stop. `subject` describes what a project must contain for the
    rule to apply; `applies` checks that.
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
    """One place in the project: what is there, what it means and what to do. `defect` is the defect's number, 1 to 14."""

    rule: str
    defect: int
    certainty: Certainty
    path: str
    line: int
    says: str
    means: str
    remedy: str


class NotLookedFor(Value):
    """A rule that did not apply, so that the absence of findings means nothing."""

    rule: str
    defect: int
    why: str


class Report(Value):
    """The result of analysing a project."""

    project: str
    files: int
    unreadable: tuple[str, ...]
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]
    silenced: int
    not_looked_for: tuple[NotLookedFor, ...]

    @property
    def defects(self) -> int:
        """Number of sure findings."""
        return sum(finding.certainty == "sure" for finding in self.findings)
