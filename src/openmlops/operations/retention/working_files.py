"""Files of trainings and versions under OPENMLOPS_HOME that are copies, or were needed by a training that has ended.

Here: exports, weights, checkpoints, features, grids, searches, predictions, splits, indexes and copies of data versions, copies
of versions, and what killed processes left. Not here: inputs (`inputs`), data (`data_versions`).
Downloads, and files that were set aside because they may be somebody's work (`replaced`, `left-out`), are never deleted.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from openmlops.operations.retention.report import Pruned, folder_bytes, limit
from openmlops.operations.retention.versions import NEVER, UNKNOWN, knows_models, rejected, unneeded_runs
from openmlops.operations.workspace import Workspace

EXPORT = timedelta(days=1)
"""time after which an export is only a copy, if its run has ended: it is registered at once"""
SCRATCH = timedelta(days=7)
"""time after which a temporary folder is that of a killed process"""
HEX, RANDOM = "[0-9a-f]", "[a-z0-9_]" * 8
"""of names that are hashes or identities of runs, and what `tempfile` appends. Only names of our own are taken for ours: a home
may be a folder in which a person keeps models and labels too"""
TEMPORARY = (
    *("verify-", "sample-", "tiny-", "labels-", "arranged-", "new-data-", "dvc-memory-"),
    *("grid-", "evaluation-", ".backup.", ".restored."),
    *("models/.download.", "models/.fresh.", "exports/.export.", "downloads/unpacked-"),
)


class _File(NamedTuple):
    """A file or folder, the time of its newest file, and whether something needs it whatever its age."""

    path: Path
    newest: datetime
    is_needed: bool
    age: timedelta | None = None
    """its own limit; None: that of the settings"""


def prune_working_files(workspace: Workspace, now: datetime, dry: bool = False) -> Pruned:
    """Delete what no open run and no kept version needs. Raises ServiceUnavailable."""
    days = workspace.settings.retention_unused_days
    before = limit(now, days)
    if before is None:
        return Pruned(what="working files", deleted=0, bytes=0, oldest=None, why=NEVER.format("RETENTION_UNUSED_DAYS"))
    if not knows_models(workspace):
        return Pruned(what="working files", deleted=0, bytes=0, oldest=None, why=UNKNOWN)
    count, size, oldest = 0, 0, None
    for file in _files(workspace, now):
        if file.is_needed or file.newest >= (now - file.age if file.age else before):
            oldest = min(oldest or file.newest, file.newest)
            continue
        count, size = count + 1, size + folder_bytes(file.path)
        if not dry:
            _remove(file.path)
    why = f"of an open run or a version that is kept, or younger than {days:g} days (exports: {EXPORT.days} day)"
    return Pruned(what="working files", deleted=count, bytes=size, oldest=oldest, why=why)


def _files(workspace: Workspace, now: datetime) -> Iterator[_File]:
    home, gone = workspace.home, unneeded_runs(workspace, now)
    open_runs = {run.id for run in workspace.disposal.runs() if run.can_go_on and run not in gone}
    kept = _kept_models(workspace, now)
    for path in _below(home, f"exports/{HEX * 32}"):
        yield _File(path, _newest(path), path.name in open_runs, EXPORT)
    for path in _below(home, f"weights/{HEX * 32}.safetensors"):
        yield _File(path, _newest(path), path.stem in open_runs)
    for path, note in ((path, note) for folder, note in _NOTES for path in _below(home, folder)):
        yield _File(path, _newest(path), _text(path / note) in open_runs)
    for path in _below(home, f"answers/{HEX * 64}-*.npz"):
        age = None if path.name.partition("-")[0] in kept else EXPORT
        yield _File(path, _newest(path), False, age)
    for path in (path for pattern in _COPIES for path in _below(home, pattern)):
        yield _File(path, _newest(path), False)
    for path in _below(home, f"trainings/features/{HEX * 64}/{HEX * 16}.npz"):
        yield _File(path, _newest(path), False)
    recorded = workspace.data_versions.fingerprint(workspace.data_folder)
    for path in _below(home, f"indexes/{HEX * 64}.parquet"):
        yield _File(path, _newest(path), path.stem == recorded)
    for path in _below(home, f"versions/{HEX * 64}"):
        yield _File(path, datetime.fromtimestamp(path.stat().st_mtime, UTC), False)
    for path in _below(home, f"models/{HEX * 64}"):
        yield _File(path, _newest(path), path.name in kept)
    for path in (path for begin in TEMPORARY for path in _below(home, begin + RANDOM)):
        if not path.lstat().st_mode & 0o077:  # as `tempfile` makes them
            yield _File(path, _newest(path), False, SCRATCH)


_COPIES = (f"splits/{HEX * 64}.npz", f"splits/{HEX * 64}", f"predictions/{HEX * 64}")
"""files named by their content, the first as earlier releases did"""
_NOTES = ((f"trainings/{HEX * 16}*", "run_id"), (f"grids/{HEX * 16}*", "parent"), (f"searches/{HEX * 16}*", "parent"))
"""folders, and their file that names the run"""


def _kept_models(workspace: Workspace, now: datetime) -> set[str]:
    """SHA-256 of the versions that stay in MLflow, and of all champions, whose copy here is the last if MLflow lost them."""
    gone = rejected(workspace, now)
    stored = {found.sha256 for found in workspace.disposal.versions() if found not in gone}
    entries = [entry for model in workspace.ledger.models() for entry in workspace.ledger.history(model)]
    champions = {(entry.model, entry.champion) for entry in entries}
    return stored | {entry.model_sha256 for entry in entries if (entry.model, entry.version) in champions}


def _below(home: Path, pattern: str) -> list[Path]:
    return sorted(home.glob(pattern))


def _newest(path: Path) -> datetime:
    """The time at which a file, or anything in a folder, changed last."""
    times = []
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileNotFoundError):  # a process that works on it deletes its own files
            times.append(each.lstat().st_mtime)
    return datetime.fromtimestamp(max(times, default=0.0), UTC)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
