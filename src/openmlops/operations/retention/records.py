"""Decisions that led to nothing: nobody asks any more why nothing was done.

Those that asked for something, or have an outcome, stay: the ledger names what they led to. So do the latest of each model,
from which policy and console read its history. Not here: ZenML's records of pipeline runs (`pipelines.run_records`).
"""

from datetime import datetime

from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.versions import NEVER
from openmlops.operations.workspace import Workspace

LATEST = 1000
"""records of a model that stay: as many as its history has (operations/monitoring/history.py)"""


def prune_decisions(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete old decisions that led to nothing. Safe to kill and to repeat. Raises ServiceUnavailable."""
    days = workspace.settings.retention_records_days
    before, what = limit(now, days), "decisions"
    if before is None:
        why = NEVER.format("RETENTION_RECORDS_DAYS")
        return Pruned(what=what, deleted=0, bytes=0, oldest=workspace.decisions.oldest(), why=why)
    done = workspace.decisions.forget(before, LATEST, dry)
    why = f"younger than {days:g} days, one of the latest {LATEST}, or it asked for something or has an outcome"
    return Pruned(what=what, deleted=done.records, bytes=done.bytes, oldest=workspace.decisions.oldest(), why=why)
