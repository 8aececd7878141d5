"""What an act was decided on: the champion and the ledger's row that its author saw, compared when the act is written.

Not here: the acts themselves (`promotion`), and the decisions of a cycle (`operations.monitoring.cycle`).
"""

import getpass
import logging
import os
from collections.abc import Callable

from openmlops.adapters.ledger import conflict
from openmlops.core.types import LedgerEntry, Standing
from openmlops.errors import LedgerConflict, one_line
from openmlops.operations.release.aliases import repair, show_states
from openmlops.operations.release.witnesses import seal
from openmlops.operations.workspace import Workspace
from openmlops.terminal import say

Tell = Callable[[str], None]
AGAIN = "Nothing was changed. Look at it, and decide again"

log = logging.getLogger(__name__)


def standing(workspace: Workspace, model: str, expected: str | int | None = None) -> Standing:
    """The champion and the newest row of a model, on which an act is decided.

    `expected` is what its author saw: a version, or a `Standing` as text. Raises LedgerConflict that tells what happened since
    if another version is champion now, SettingsError.
    """
    if isinstance(expected, str) and not expected.isdigit():
        seen = Standing.parse(expected)
        require_unchanged(workspace, model, seen)
        return seen
    now = Standing.of(workspace.ledger.head(model))
    if expected is not None and now.champion != int(expected):
        raise _not_champion(workspace, model, int(expected))
    return now


def refuse_repetition(workspace: Workspace, model: str) -> None:
    """Raises LedgerConflict if the newest change is a rollback already: a command that is given again would go back further."""
    changes = [entry for entry in workspace.ledger.history(model) if entry.is_change]
    if changes and changes[-1].kind == "rollback":
        now = changes[-1].champion
        problem = f"The newest change of {model} is a rollback already: {changes[-1]}"
        raise LedgerConflict(problem, f"Nothing was changed. To go back further, name the champion you see: --expect {now}")


def act_on(workspace: Workspace, model: str, seen: Standing, act: Callable[[int], LedgerEntry]) -> LedgerEntry:
    """Append a row to what the author saw. Verdicts of meanwhile that changed nothing in production are no conflict."""
    while True:
        sequence = require_unchanged(workspace, model, seen)
        try:
            return act(sequence)
        except LedgerConflict:
            if require_unchanged(workspace, model, seen) == sequence:
                raise


def require_unchanged(workspace: Workspace, model: str, seen: Standing) -> int:
    """The newest row of the ledger, if the champion is still the one that was seen. Raises LedgerConflict."""
    since = workspace.ledger.since(model, seen.sequence)
    changes = [entry for entry in since if entry.is_change]
    if changes:
        raise conflict(model, seen.sequence, changes)
    now = Standing.of(workspace.ledger.head(model))
    if now.champion != seen.champion or now.sequence < seen.sequence:
        raise _not_champion(workspace, model, seen.champion)
    return max(seen.sequence, *(entry.sequence for entry in since)) if since else seen.sequence


def _not_champion(workspace: Workspace, model: str, expected: int | None) -> LedgerConflict:
    entries = workspace.ledger.history(model)
    changes = [entry for entry in entries if entry.is_change]
    who = f"Version {expected}" if expected else "No version"
    now = f"version {changes[-1].champion}, since {changes[-1]}" if changes else "no version"
    problem = f"{who} is not the champion of {model}, on which this decision was based: that is {now}"
    return LedgerConflict(problem, AGAIN)


def mirror(workspace: Workspace, entry: LedgerEntry, tell: Tell = say) -> None:
    """Set MLflow's alias after a row was written, and tell the witnesses. What fails is told: a failed act would invite
    somebody to repeat it."""
    done = f"Row {entry.sequence} of the ledger is written, and version {entry.champion} is in production"
    for act, failed, mends in (
        (repair, "Warning: MLflow's alias champion could not be set (%s)", "the next command sets it"),
        (_show, "Warning: the states of versions could not be shown in MLflow (%s)", "`openmlops models` shows them"),
        (seal, "Warning: the ledger's copy could not be written (%s)", "the next promotion writes it"),
    ):
        try:
            act(workspace, entry.model)
        except Exception as error:
            why = one_line(str(error)).rstrip(".") or type(error).__name__
            log.debug("%s: %s", entry.model, why, exc_info=True)
            tell(f"{failed % why}. {done}; {mends}.")


def _show(workspace: Workspace, model: str) -> None:
    show_states(workspace, model, workspace.ledger.history(model))


def account() -> str:
    """The user name of this process; its uid if it has none, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
