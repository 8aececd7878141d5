"""What steps handed on, in the object store: needed until the pipeline has ended, or is run again.

Not here: the copies on this machine (`working_files`), and data versions (`unneeded_data`).
"""

from collections import defaultdict
from datetime import datetime

from openmlops.adapters.contents import PREFIX
from openmlops.adapters.object_store import Stored
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.versions import NEVER
from openmlops.operations.retention.working_files import EXPORT
from openmlops.operations.workspace import Workspace

DATA = "data"
"""the kind of the records of data versions, which stay as long as these may be used: they are small"""
WHAT = "contents of steps"
BRIEF = ("export/", "window/", "report/")
"""kinds that only the next step needs: MLflow has them from then on"""


def prune_contents(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete contents that no step has kept since the limit. Raises ServiceUnavailable."""
    store, days = workspace.object_store, workspace.settings.retention_unused_days
    before = limit(now, days)
    found = _contents(store.stored(f"{PREFIX}/")) if store.is_made() else {}
    newest = {name: max(each.at for each in objects) for name, objects in found.items()}
    if before is None:
        return Pruned(
            what=WHAT, deleted=0, bytes=0, oldest=min(newest.values(), default=None), why=NEVER.format("RETENTION_UNUSED_DAYS")
        )
    gone = [name for name, at in newest.items() if at < (now - EXPORT if name.startswith(BRIEF) else before)]
    objects = [each for name in gone for each in found[name]]
    for each in () if dry else objects:
        store.delete(each.key)
    kept = min((at for name, at in newest.items() if name not in gone), default=None)
    why = f"kept by a step less than {days:g} days ago (exports, windows and reports: {EXPORT.days} day)"
    return Pruned(what=WHAT, deleted=len(gone), bytes=sum(each.size for each in objects), oldest=kept, why=why)


def _contents(stored: tuple[Stored, ...]) -> dict[str, list[Stored]]:
    """The objects of each content by its name, KIND/SHA256."""
    found: dict[str, list[Stored]] = defaultdict(list)
    for each in stored:
        _, kind, name, *_ = each.key.split("/")
        if kind != DATA:
            found[f"{kind}/{name}"].append(each)
    return found
