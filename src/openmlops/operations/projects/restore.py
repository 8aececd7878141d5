"""Put a backup back, also under a running server (`openmlops restore FILE`).

Nothing is changed until every file of the backup was read and is what the backup says. Files are added to those that are
there; databases are exchanged, and those of before are kept under OPENMLOPS_HOME/replaced: whatever was acknowledged is in
one of both.
"""

import os
import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from openmlops.adapters.fences import holder_name, is_dead
from openmlops.adapters.sqlite_file import exchange, is_sqlite, require_integrity
from openmlops.core.types import Value
from openmlops.errors import DataError, LeaseTaken, ServiceUnavailable
from openmlops.files import PRIVATE_FOLDER, replacing
from openmlops.operations.projects.backup import (
    DATABASE,
    HOME,
    LISTING,
    MLFLOW,
    blocks,
    databases,
    members,
    require_embedded,
    verified,
)
from openmlops.operations.run_leases import PREFIX
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder

BUSY = ("cycle/", PREFIX)
OWNERS = ("inputs", "zenml", "console")
"""folders that their owner alone may read"""


class Restored(Value):
    """What was restored, of when, and what the database of before has that the restored one lacks."""

    at: datetime
    files: int
    kept: str
    """where the database of before is; empty if there was none"""
    predictions: int
    ledger_rows: int


def restore(workspace: Workspace, path: Path, now: datetime) -> Restored:
    """Restore the backup at `path` into OPENMLOPS_HOME.

    Raises SettingsError for a project on servers, DataCorrupt for a damaged backup, DataError where it cannot be read or
    written, LeaseTaken while a training or cycle runs. Nothing is changed then, unless the disk fails while files are placed.
    """
    require_embedded(workspace, "restored")
    listing = verified(path)
    _require_idle(workspace, now)
    places = databases(workspace)
    kept = workspace.home / "replaced" / f"{DATABASE}-{now.astimezone(UTC):%Y%m%dT%H%M%S}"
    workspace.home.mkdir(parents=True, exist_ok=True)
    try:
        with temporary_folder(workspace.home, ".restored.") as unpacked:
            _unpack(path, unpacked)
            had_one = places[DATABASE].is_file()
            _place(workspace, unpacked / HOME, kept)
            for stored in (MLFLOW, DATABASE):
                if (unpacked / stored).is_file():
                    exchange(places[stored], unpacked / stored, kept.with_name(kept.name.replace(DATABASE, stored)))
    except OSError as error:
        where = error.filename or workspace.home
        raise DataError(
            f"{where} cannot be written ({error.strerror or error})", "Free disk space, and restore again"
        ) from error
    lost = _lost(kept, places[DATABASE]) if had_one else (0, 0)
    return Restored(
        at=listing.at,
        files=len(listing.files),
        kept=str(kept) if had_one else "",
        predictions=lost[0],
        ledger_rows=lost[1],
    )


def _require_idle(workspace: Workspace, now: datetime) -> None:
    """Raises LeaseTaken while a training or cycle runs: it would go on with what is replaced."""
    if not databases(workspace)[DATABASE].is_file():
        return
    try:
        leases = [lease for prefix in BUSY for lease in workspace.leases.named(prefix)]
    except ServiceUnavailable:  # damaged, which is why it is restored
        return
    held = [lease for lease in leases if lease.holder and lease.expires > now and not is_dead(lease.holder)]
    if held:
        who, remedy = holder_name(held[0].holder), "Wait until it has ended, or stop it"
        raise LeaseTaken(f"{who} is at work ({held[0].name}) and would go on with what is replaced", remedy)


def _unpack(path: Path, folder: Path) -> None:
    for member, content in members(path):
        if member.name == LISTING:
            continue
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.islnk():
            os.link(folder / member.linkname, target)
            continue
        _write(path, member, content, target)
        if is_sqlite(target):
            require_integrity(target, path)


def _write(path: Path, member: tarfile.TarInfo, content: BufferedReader, target: Path) -> None:
    with replacing(target) as beside:
        with beside.open("wb") as file:
            file.writelines(blocks(path, content))
        os.utime(beside, (member.mtime, member.mtime))
        beside.chmod(member.mode & 0o755)


def _place(workspace: Workspace, unpacked: Path, kept: Path) -> None:
    for path in sorted(unpacked.rglob("*")):
        inside = path.relative_to(unpacked)
        target = workspace.home / inside
        if path.is_dir():
            target.mkdir(PRIVATE_FOLDER if inside.parts[0] in OWNERS else 0o777, exist_ok=True)
        elif is_sqlite(path):
            exchange(target, path, kept.with_name(kept.name.replace(DATABASE, target.name)))
        else:
            os.replace(path, target)


def _lost(before: Path, after: Path) -> tuple[int, int]:
    """Numbers of predictions and ledger rows that the database of before has and the restored one lacks; 0 if it is damaged."""
    counts = (
        "SELECT count(*) FROM old.inference WHERE sequence > (SELECT coalesce(max(sequence), 0) FROM inference)",
        "SELECT count(*) FROM old.ledger AS row WHERE hash NOT IN (SELECT hash FROM ledger)",
    )
    try:
        with closing(sqlite3.connect(after, timeout=1)) as connection:
            connection.execute("ATTACH ? AS old", (str(before),))
            first, second = (int(connection.execute(count).fetchone()[0]) for count in counts)
    except sqlite3.Error:
        return 0, 0
    return first, second
