"""Images sent for prediction, by age and total size: RETENTION_INPUTS_DAYS and RETENTION_INPUTS_GIB.

A running server prunes them every minute by itself; this is for homes where none runs, and for the account.
"""

from datetime import UTC, datetime

from openmlops.adapters import input_store
from openmlops.adapters.input_store import InputStore
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

GIB = 1024**3


def prune_inputs(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete the inputs beyond the limits."""
    settings = workspace.settings
    done = prune_store(workspace.inputs, settings, now, dry)
    return Pruned(
        what="inputs",
        deleted=done.removed,
        bytes=done.removed_bytes,
        oldest=datetime.fromtimestamp(done.oldest, UTC) if done.oldest else None,
        why=_why(settings.retention_inputs_days, settings.retention_inputs_gib),
    )


def prune_store(inputs: InputStore, settings: Settings, now: datetime, dry: bool = False) -> input_store.Pruned:
    """Delete inputs last sent before the age limit and, above the size limit, the oldest ones."""
    before = limit(now, settings.retention_inputs_days)
    most = settings.retention_inputs_gib * GIB or None
    return inputs.prune(most, before.timestamp() if before else 0.0, dry)


def _why(days: float, gib: float) -> str:
    within = [f"younger than {days:g} days"] if days else []
    within += [f"within {gib:g} GiB"] if gib else []
    return " and ".join(within) or "kept for ever: RETENTION_INPUTS_DAYS and RETENTION_INPUTS_GIB are 0"
