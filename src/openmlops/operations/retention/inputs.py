"""Images sent for prediction, by age and total size: RETENTION_INPUTS_DAYS and RETENTION_INPUTS_GIB.

A running server prunes them every minute by itself; `prune_inputs` is for homes where none runs, and for the account. Images of
open label requests stay.
"""

from collections.abc import Set
from datetime import UTC, datetime

from openmlops.adapters import input_store
from openmlops.adapters.input_store import InputStore
from openmlops.adapters.packed_inputs import PackedInputs
from openmlops.operations.retention import clock
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.requested import requested_inputs
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

GIB = 1024**3
NOTE = ".clock.json"
"""in the folder of the inputs: what is known of the clock"""
Inputs = InputStore | PackedInputs


def prune_inputs(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete the inputs beyond the limits: files, and what is packed, also if new ones are files again."""
    settings = workspace.settings
    needed = requested_inputs(workspace.ledger, workspace.decisions, workspace.inference_log)
    done = _prune(workspace.packed_inputs, settings, limit(now, settings.retention_inputs_days), needed, dry)
    return Pruned(
        what="inputs",
        deleted=done.removed,
        bytes=done.removed_bytes,
        oldest=datetime.fromtimestamp(done.oldest, UTC) if done.oldest else None,
        why=_why(settings.retention_inputs_days, settings.retention_inputs_gib, needed),
    )


def prune_unless_doubtful(
    inputs: Inputs, settings: Settings, now: datetime, needed: Set[str] = frozenset()
) -> tuple[input_store.Pruned, str]:
    """Delete inputs beyond the limits that are not `needed`, by size alone while the clock is doubted (`clock`).

    Returns what was deleted, and why the clock is doubted: a sentence, or nothing.
    """
    before = limit(now, settings.retention_inputs_days)
    doubt = clock.doubt(inputs.folder / NOTE, now, inputs.newest) if before else ""
    return _prune(inputs, settings, None if doubt else before, needed), doubt


def _prune(
    inputs: Inputs, settings: Settings, before: datetime | None, needed: Set[str], dry: bool = False
) -> input_store.Pruned:
    """Delete inputs last sent before an instant and, above the size limit, the oldest ones."""
    return inputs.prune(settings.retention_inputs_gib * GIB or None, before.timestamp() if before else 0.0, dry, needed)


def _why(days: float, gib: float, needed: Set[str]) -> str:
    within = [f"younger than {days:g} days"] if days else []
    within += [f"within {gib:g} GiB"] if gib else []
    if not within:
        return "kept for ever: RETENTION_INPUTS_DAYS and RETENTION_INPUTS_GIB are 0"
    return " and ".join(within) + (f", or of open label requests ({len(needed)})" if needed else "")
