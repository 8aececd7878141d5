"""Every error that this project raises on purpose. Each says what was wrong (the value) and what would be right.

The command line prints `str(error)` on one line and exits with 1; the server turns the same text into problem details.
Anything that is not an `OpenMLOpsError` is a defect of ours. Whatever a message quotes may come from outside: it is made one
line without control characters, and without the passwords of URLs.
"""

import re

MOST_CHARACTERS = 2000
_USERINFO = re.compile(r"(?<=://)([^\s/@:]*):\S*@|(?<=://)[^\s/@:]+@")


def hide_passwords(text: str) -> str:
    """`text` with the password, or the token, before the host of every URL in it replaced by asterisks."""
    return _USERINFO.sub(lambda found: f"{found[1]}:***@" if found[1] is not None else "***@", text)


def one_line(text: str) -> str:
    """`text` as it may be told to anybody: one line of bounded length, no passwords of URLs, nothing that a terminal obeys."""
    line = hide_passwords(" ".join(text.split()))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}..."


class OpenMLOpsError(Exception):
    """`problem` names the value that was wrong; `remedy` says what to do, as a sentence in the imperative."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = one_line(problem).rstrip(".")
        self.remedy = one_line(remedy).rstrip(".")
        super().__init__(problem, remedy)

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}." if self.remedy else f"{self.problem}."


class SettingsError(OpenMLOpsError):
    """A setting holds a value that is not allowed."""


class DataError(OpenMLOpsError):
    """The data set is missing, unreadable or not what it must be."""


class DataCorrupt(DataError):
    """Stored bytes do not match the SHA-256 they were recorded with."""


class DataInvalid(DataError):
    """Validation found problems that block training; `problems` lists all of them."""

    def __init__(self, problem: str, remedy: str = "", problems: tuple = ()) -> None:
        super().__init__(problem, remedy)
        self.problems = problems


class TrainingError(OpenMLOpsError):
    """Training was stopped because it could not end well (not finite, not learning)."""


class ExportError(OpenMLOpsError):
    """The exported model does not answer as the trained one does."""


class EvaluationError(OpenMLOpsError):
    """A metric cannot be measured on what was given; nothing is put in its place."""


class ModelNotFound(OpenMLOpsError):
    """No such model, version or alias."""


class ModelCorrupt(OpenMLOpsError):
    """A stored model's files do not match its manifest."""


class RegistryError(OpenMLOpsError):
    """A version was refused: its run does not say how good it is, or its row is not what was registered or recorded."""


class GateError(OpenMLOpsError):
    """The gate was asked something that has no honest answer, such as to compare a model with itself."""


class LedgerConflict(OpenMLOpsError):
    """Somebody else appended to the ledger first; nothing was written."""


class LedgerCorrupt(OpenMLOpsError):
    """The ledger's hash chain is broken."""


class ServiceUnavailable(OpenMLOpsError):
    """A database, object store or tracking server did not answer as it must; it may answer later."""


class ServiceRefused(ServiceUnavailable):
    """It answered, and said no: waiting does not help."""


class PredictionNotFound(OpenMLOpsError):
    """The log holds no prediction with this id."""


class LabelConflict(OpenMLOpsError):
    """The prediction already has another label; labels join once."""


class DecisionNotFound(OpenMLOpsError):
    """No decision has this id."""


class LeaseTaken(OpenMLOpsError):
    """Somebody else may act now; nothing was done."""


class LeaseLost(OpenMLOpsError):
    """The lease ran out and went to somebody else; what was begun must not go on."""


class NotificationError(OpenMLOpsError):
    """A notification was not sent, or not taken."""
