"""When what is beyond its retention was pruned last, and whether the next pruning is due.

Apart from `prune`, because `doctor` and the watcher look without importing what a pruning needs.
"""

from datetime import UTC, datetime, timedelta

from openmlops.operations.workspace import Workspace

EVERY = timedelta(days=1)
"""time between two prunings by watchers"""
DONE = "prune/done"
"""a lease that expires when the next pruning is due"""


def is_due(workspace: Workspace) -> bool:
    """Whether no process has pruned in the last day. One in the future does not count: the clock was wrong then, or is now."""
    now = datetime.now(UTC)
    return not now < workspace.leases.look(DONE).expires <= now + EVERY


def last_pruned(workspace: Workspace) -> datetime | None:
    """When a pruning of this database began last; None if there was none."""
    found = workspace.leases.look(DONE)
    return found.expires - EVERY if found.holder else None
