"""How large what grows is now, and whether its limits are kept: what `openmlops doctor` says. Read-only.

Not here: what is beyond a limit one by one (`openmlops prune --dry-run`).
"""

from datetime import datetime

from openmlops.adapters import database
from openmlops.core.types import Value
from openmlops.operations.retention.due import EVERY, last_pruned
from openmlops.operations.retention.inputs import GIB
from openmlops.operations.retention.report import folder_bytes, limit, size
from openmlops.operations.workspace import Workspace

LATE = 2 * EVERY
"""time without a pruning after which what is beyond a limit is worth a warning"""
OF_VERSIONS = ("models", "mlflow-artifacts", "exports", "weights")
OF_RUNS = ("trainings", "grids", "searches", "answers", "predictions", "splits")
MODELS = OF_VERSIONS + OF_RUNS
"""folders of OPENMLOPS_HOME with files of versions and runs"""
DATA = ("dvc-cache", "dvc-remote", "object-store", "versions", "indexes")
"""those with data versions, and with what steps handed on"""


class Sizes(Value):
    """`text`: what there is, with its limits. `exceeded`: which limit is not kept, and since when nobody pruned; else empty."""

    text: str
    exceeded: str


def measure(workspace: Workspace, now: datetime) -> Sizes:
    """Measure the database and the folders of the home."""
    s = workspace.settings
    first, inputs, pruned = workspace.inference_log.first(), workspace.inputs.size(), last_pruned(workspace)
    seen: set[tuple[int, int]] = set()
    data, models = (_folders(workspace, names, seen) for names in (DATA, MODELS))
    since = f" since {first:%Y-%m-%d}" if first else ""
    found = [
        f"database {size(database.size(workspace.engine))}, predictions{since} ({_days(s.retention_predictions_days)})",
        f"inputs {size(inputs.bytes)} ({_inputs(s.retention_inputs_days, s.retention_inputs_gib)})",
        f"versions and runs {size(models)}, data versions {size(data)} here ({_days(s.retention_unused_days)}, if unused)",
        f"last pruned {pruned:%Y-%m-%d %H:%M}" if pruned else "never pruned yet",
    ]
    before = limit(now - LATE, s.retention_predictions_days)
    is_late = pruned is None or now - pruned > LATE
    is_old = before is not None and first is not None and first < before
    over = "older predictions than that are kept" if is_old and is_late else ""
    if s.retention_inputs_gib and inputs.bytes > 1.1 * s.retention_inputs_gib * GIB:
        over = "; ".join(each for each in (over, "the inputs exceed their limit") if each)
    return Sizes(text="; ".join(found), exceeded=over)


def _days(days: float) -> str:
    return f"limit {days:g} days" if days else "no limit"


def _inputs(days: float, gib: float) -> str:
    limits = [f"{days:g} days"] if days else []
    limits += [f"{gib:g} GiB"] if gib else []
    return f"limit {', '.join(limits)}" if limits else "no limit"


def _folders(workspace: Workspace, names: tuple[str, ...], seen: set[tuple[int, int]]) -> int:
    """Bytes of these folders; links that are `seen` already do not count."""
    return sum(folder_bytes(workspace.home / name, seen) for name in names)
