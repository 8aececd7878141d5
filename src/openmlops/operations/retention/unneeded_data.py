"""Data versions that no champion, version or run needs: their objects in DVC's cache and remote, and their uploaded copies.

Only versions that were added in this home go, and of a server's bucket only what this home was the first to push: what somebody
else added is never touched. Not here: which objects a version shares with others (`adapters.dvc_repository`).
"""

import subprocess
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from openmlops.adapters.data_versions import OwnVersion
from openmlops.files import Manifest, real
from openmlops.operations.data.datasets import key_prefix, locked
from openmlops.operations.data.versions import RECORDS
from openmlops.operations.retention.report import Pruned, limit
from openmlops.operations.retention.versions import NEVER, UNKNOWN, knows_models, rejected, unneeded_runs
from openmlops.operations.workspace import Workspace

GIT_SECONDS = 60


def prune_data(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete versions added before the limit that nothing names. Raises DataError, DataCorrupt, ServiceUnavailable."""
    days = workspace.settings.retention_unused_days
    before, own = limit(now, days), workspace.data_versions.own()
    if before is None:
        return Pruned(what="data versions", deleted=0, bytes=0, oldest=_oldest(own), why=NEVER.format("RETENTION_UNUSED_DAYS"))
    if not knows_models(workspace):
        return Pruned(what="data versions", deleted=0, bytes=0, oldest=_oldest(own), why=UNKNOWN)
    why = f"of a champion, a version, a run, the data folder or a git commit, or younger than {days:g} days"
    old = [found for found in own if found.at < before]
    folder = workspace.data_folder
    places = {folder.parent, *(Path(place) for found in own for place in found.places)}  # also other projects with this home
    needed = _needed(workspace, now, places) if old else frozenset()
    unnamed = [found for found in old if found.fingerprint not in needed]
    gone = [found for found in unnamed if not any(_is_in_git(place, found.listing) for place in places)]
    size = 0
    if gone:
        size += sum(_delete_copies(workspace, found, dry) for found in gone)
        with locked(workspace):
            size += workspace.data_versions.discard(gone, folder, dry)
    kept = [found for found in own if found not in gone]
    return Pruned(what="data versions", deleted=len(gone), bytes=size, oldest=_oldest(kept), why=why)


def _oldest(own: Sequence[OwnVersion]) -> datetime | None:
    return min((found.at for found in own), default=None)


def _needed(workspace: Workspace, now: datetime, places: Collection[Path]) -> frozenset[str]:
    """Fingerprints of the data of all champions, now and before, of the versions and runs that stay, and of data folders."""
    gone = {version.run_id for version in rejected(workspace, now)} | {run.id for run in unneeded_runs(workspace, now)}
    found = {run.dataset for run in workspace.disposal.runs() if run.id not in gone}
    for model in workspace.ledger.models():
        entries, champions = workspace.ledger.history(model), workspace.ledger.champions(model)
        found |= {entry.dataset for entry in entries if entry.version in champions}
        doomed = {version.version for version in rejected(workspace, now) if version.name == model}
        found |= {ref.dataset for ref in workspace.registered.versions(model) if ref.version not in doomed}
    for path in (path for place in places for path in place.glob("*.manifest.json")):
        found.add(Manifest.read(path).fingerprint)
    return frozenset(found)


def _is_in_git(folder: Path, listing: str) -> bool:
    """Whether a commit of the repository around `folder` names this version. True if there is one and git does not say: it may
    be missing, take too long, or refuse a repository of another user."""
    folder = real(folder)
    if not folder.is_dir() or not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return False
    command = ["git", "log", "--all", "--max-count=1", "--format=%h", f"-S{listing}", "--", ":(top)*.dvc"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode != 0 or bool(done.stdout.strip())


def _delete_copies(workspace: Workspace, found: OwnVersion, dry: bool) -> int:
    """Delete the uploaded files of a version from the object store, unless it is a bucket in which somebody else was first;
    bytes."""
    store, is_shared = workspace.object_store, bool(workspace.settings.minio_endpoint_url)
    if (is_shared and not found.is_pushed_first) or not store.is_made():
        return 0
    size = 0
    for prefix in (key_prefix(workspace, found.folder, found.fingerprint), f"{RECORDS}/{found.fingerprint}"):
        for stored in store.stored(f"{prefix}/"):
            size += stored.size
            if not dry:
                store.delete(stored.key)
    return size
