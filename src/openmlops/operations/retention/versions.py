"""Versions that the gate rejected, runs that became no version, and files of monitoring runs, in MLflow.

Here: which of them go. Not here: how (`adapters.mlflow_disposal`), and local files (`working_files`).
"""

import re
from collections import Counter
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from openmlops.core.types import LedgerEntry
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    from openmlops.adapters.mlflow_disposal import StoredRun, StoredVersion

REPORTS = "monitoring"
"""folder of a run's files with one folder per decision"""
ACTED = ("retrain", "roll_back", "collect_labels")
NEVER = "kept for ever: {} is 0"
UNKNOWN = (
    "kept: the ledger and MLflow know no version of any model. Are DATABASE_URL and MLFLOW_TRACKING_URI those of this home?"
)


def knows_models(workspace: Workspace) -> bool:
    """Whether the ledger or MLflow knows any version: if neither does, another database may be the one that names what is
    needed, and nothing of this home is deleted for not being named."""
    return bool(workspace.ledger.models() or workspace.disposal.versions())


def prune_versions(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete versions that were rejected before the limit, with their runs. Raises ServiceUnavailable."""
    disposal, settings = workspace.disposal, workspace.settings
    if not dry:
        disposal.finish()
    found = rejected(workspace, now)
    size = 0
    for version in found:
        if version.run_id in _run_ids(workspace):
            size += disposal.size(version.run_id)
        if not dry:
            disposal.delete_version(version)
            if version.run_id in _run_ids(workspace):
                disposal.delete_run(version.run_id)
    kept = [v for v in disposal.versions() if v not in found]
    oldest = min((run.ended for run in disposal.runs() if run.id in {v.run_id for v in kept}), default=None)
    why = (
        f"champion now or before, one of the latest {settings.retention_versions}, with an alias, not judged, or rejected less "
        f"than {settings.retention_unused_days:g} days ago"
    )
    if not settings.retention_unused_days:
        why = NEVER.format("RETENTION_UNUSED_DAYS")
    return Pruned(what="rejected versions", deleted=len(found), bytes=size, oldest=oldest, why=why)


def rejected(workspace: Workspace, now: datetime) -> "tuple[StoredVersion, ...]":
    """The versions in MLflow that the gate did not promote before the limit and that nobody needs.

    A version stays that was ever champion, is one of the latest of its model, has an alias, or that the ledger does not know
    with these files: it may be somebody else's. So does one whose run, and so its files, another version has.
    """
    before = limit(now, workspace.settings.retention_unused_days)
    if before is None:
        return ()
    ledger = cache(workspace.ledger.history)
    ours, most = set(workspace.ledger.models()), workspace.settings.retention_versions
    everything = workspace.disposal.versions()
    of_run = Counter(found.run_id for found in everything)
    stored = [found for found in everything if found.name in ours]
    numbers = {model: sorted(found.version for found in stored if found.name == model) for model in ours}
    return tuple(
        found
        for found in stored
        if found.version not in numbers[found.name][-most:]
        and not found.aliases
        and of_run[found.run_id] == 1
        and _was_rejected(found, ledger(found.name), before)
    )


def _was_rejected(found: "StoredVersion", entries: tuple[LedgerEntry, ...], before: datetime) -> bool:
    its = [entry for entry in entries if entry.version == found.version]
    is_known = bool(its) and all(entry.model_sha256 == found.sha256 for entry in its)
    return is_known and its[-1].at < before and all(entry.champion != found.version for entry in entries)


def prune_runs(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete runs that ended before the limit and became no version. Raises ServiceUnavailable."""
    disposal, days = workspace.disposal, workspace.settings.retention_unused_days
    found = unneeded_runs(workspace, now)
    size = sum(disposal.size(run.id) for run in found)
    for run in () if dry else found:
        disposal.delete_run(run.id)
    oldest = min((run.ended for run in disposal.runs() if run not in found), default=None)
    why = f"of a version, open, or ended less than {days:g} days ago" if days else NEVER.format("RETENTION_UNUSED_DAYS")
    return Pruned(what="runs without a version", deleted=len(found), bytes=size, oldest=oldest, why=why)


def unneeded_runs(workspace: Workspace, now: datetime) -> "tuple[StoredRun, ...]":
    """The runs of our models, by their name, that ended before the limit, that no version has, and that no process holds. The
    run of a grid stays as long as one of its runs."""
    before = limit(now, workspace.settings.retention_unused_days)
    if before is None:
        return ()
    disposal = workspace.disposal
    gone = {version.run_id for version in rejected(workspace, now)}  # with their versions
    taken = {version.run_id for version in disposal.versions()}
    names = "|".join(map(re.escape, sorted({*workspace.ledger.models(), workspace.model_name})))
    ours = re.compile(rf"({names})(-[0-9a-f]{{8}}| grid| search)")  # as a training, a grid and a search name theirs
    held = {lease.name.partition("/")[2] for lease in workspace.leases.named("run/") if lease.expires > now}
    runs = [run for run in disposal.runs() if run.id not in gone]
    found = [
        run
        for run in runs
        if run.ended < before and not run.is_open and run.id not in taken and run.start not in held and ours.fullmatch(run.name)
    ]
    parents = {run.parent for run in runs if run not in found}
    return tuple(run for run in found if run.id not in parents)


def prune_reports(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete the files of monitoring runs before their limit from the runs of champions. Raises ServiceUnavailable."""
    disposal, settings = workspace.disposal, workspace.settings
    days, more = settings.retention_reports_days, settings.retention_unused_days
    more = max(days, more) if days and more else 0.0
    short, long = limit(now, days), limit(now, more)
    count, size, oldest = 0, 0, None
    for version in _champions(workspace):
        for name in disposal.folders(version.run_id, REPORTS):
            record = workspace.decisions.find(name)
            before = long if record and record.action in ACTED else short
            if record and before and record.at < before:
                count, size = count + 1, size + disposal.size(version.run_id, f"{REPORTS}/{name}")
                if not dry:
                    disposal.delete_folder(version.run_id, f"{REPORTS}/{name}")
            elif record:
                oldest = min(oldest or record.at, record.at)
    why = f"younger than {days:g} days; of a decision that acted: {f'{more:g} days' if more else 'for ever'}"
    why = why if days else NEVER.format("RETENTION_REPORTS_DAYS")
    return Pruned(what="monitoring reports", deleted=count, bytes=size, oldest=oldest, why=why)


def _champions(workspace: Workspace) -> "list[StoredVersion]":
    """The versions of our champions, now and before, whose run is there: only champions are monitored."""
    champions = {(model, version) for model in workspace.ledger.models() for version in workspace.ledger.champions(model)}
    runs = _run_ids(workspace)
    return [v for v in workspace.disposal.versions() if (v.name, v.version) in champions and v.run_id in runs]


def _run_ids(workspace: Workspace) -> set[str]:
    return {run.id for run in workspace.disposal.runs()}
