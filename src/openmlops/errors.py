"""All errors that this package raises on purpose. Each states the problem, with the value, and the remedy.

The command line prints `str(error)` on one line and exits with 1; the server returns the same text as problem details. Any
exception that is not an `OpenMLOpsError` is a bug. Quoted text may come from outside: it is reduced to one line without control
characters and without passwords of URLs.
"""

import re
from typing import Any

from openmlops.names import is_shown

MOST_CHARACTERS = 2000
_USERINFO = re.compile(r"(?<=://)([^\s/@:]*):\S*@|(?<=://)[^\s/@:]+@")


def hide_passwords(text: str) -> str:
    """`text` with the password or token before the host of every URL replaced by asterisks."""
    return _USERINFO.sub(lambda found: f"{found[1]}:***@" if found[1] is not None else "***@", text)


def one_line(text: str) -> str:
    """`text` made safe to print: one line of bounded length, no passwords of URLs, no control characters."""
    shown = printable(hide_passwords(" ".join(text.split())))
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}..."


def printable(text: str) -> str:
    """`text` with the characters escaped that a name must not have (`is_shown`), other than line breaks and tabs."""
    return "".join(c if is_shown(c) or c in "\n\t" else _escaped(c) for c in text)


def escaped(name: str) -> str:
    """A name as a part of one line: also its line breaks and tabs escaped."""
    return "".join(c if is_shown(c) else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class OpenMLOpsError(Exception):
    """`problem` names the invalid value; `remedy` says what to do, as a sentence in the imperative."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = one_line(problem).rstrip(".")
        self.remedy = one_line(remedy).rstrip(".")
        super().__init__(problem, remedy)

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}." if self.remedy else f"{self.problem}."


class SettingsError(OpenMLOpsError):
    """A setting has an invalid value."""


class ClockError(OpenMLOpsError):
    """The clock of this machine may be wrong."""


class DataError(OpenMLOpsError):
    """The data set is missing, unreadable or invalid."""


class DataCorrupt(DataError):
    """Stored bytes do not match their recorded SHA-256."""


class DataInvalid(DataError):
    """Validation found problems that block training; `problems` lists all of them."""

    def __init__(self, problem: str, remedy: str = "", problems: tuple = ()) -> None:
        super().__init__(problem, remedy)
        self.problems = problems


class TrainingError(OpenMLOpsError):
    """Training was stopped because the loss is not finite or the model does not learn, or it cannot be started or logged."""


class ExportError(OpenMLOpsError):
    """The exported model's outputs differ from the trained model's."""


class EvaluationError(OpenMLOpsError):
    """A metric cannot be computed on this input; no default is substituted."""


class ModelNotFound(OpenMLOpsError):
    """No such model, version or alias."""


class ModelCorrupt(OpenMLOpsError):
    """A stored model's files do not match its manifest."""


class RegistryError(OpenMLOpsError):
    """A version was rejected: its run has no test metrics, or its entry does not match what was registered."""


class GateError(OpenMLOpsError):
    """The comparison is not valid, for example of a model with itself."""


class GateRefusal(GateError):
    """The gate did not promote a version that a person submitted; `entry` is the row of the ledger that says so."""

    def __init__(self, problem: str, remedy: str, entry: Any) -> None:
        super().__init__(problem, remedy)
        self.entry = entry


class LedgerConflict(OpenMLOpsError):
    """Another process appended to the ledger first; nothing was written."""


class LedgerCorrupt(OpenMLOpsError):
    """The ledger's hash chain is broken."""


class LedgerBehind(LedgerCorrupt):
    """The ledger lacks rows that are known elsewhere: its database was lost, or is an old one."""


class ServiceUnavailable(OpenMLOpsError):
    """A database, object store or tracking server is unavailable; retrying may help."""


class ServiceRefused(ServiceUnavailable):
    """The service rejected the request; retrying does not help."""


class DiskFull(ServiceRefused):
    """A disk is full. Waiting does not help, but what was done is kept: the same command goes on once there is room."""


class PredictionNotFound(OpenMLOpsError):
    """The inference log has no prediction with this id."""


class LabelConflict(OpenMLOpsError):
    """The prediction already has another label; a label cannot be changed."""


class DecisionNotFound(OpenMLOpsError):
    """No decision has this id."""


class LeaseTaken(OpenMLOpsError):
    """Another process holds the lease; nothing was done."""


class LeaseLost(OpenMLOpsError):
    """The lease expired and another process acquired it; the work in progress must stop."""


class NotificationError(OpenMLOpsError):
    """A notification could not be sent, or was rejected."""
