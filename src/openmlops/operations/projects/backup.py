"""One file with everything of a project that cannot be made again: `openmlops backup FILE`, `openmlops restore FILE`.

What is here: the embedded stores under OPENMLOPS_HOME (database, MLflow, data versions, inputs, pipeline runs), copied while
they are in use. What is not: putting them back (`restore`), databases on servers and S3, which their own tools copy
(docs/operations.md), the raw data, which the data versions hold, and copies and caches.

The database is copied first: whatever its rows refer to was stored before them, and is copied after it.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath

from pydantic import ValidationError
from sqlalchemy import make_url

from openmlops.adapters.database import BUSY_SECONDS, is_embedded
from openmlops.adapters.sqlite_file import JOURNALS, copy_online, is_sqlite
from openmlops.archives import BROKEN, open_tar
from openmlops.core.types import Value
from openmlops.errors import DataCorrupt, DataError, SettingsError
from openmlops.files import PRIVATE, opened, replacing
from openmlops.operations.workspace import Workspace
from openmlops.temporary import temporary_folder
from openmlops.version import __version__

LISTING = "backup.json"
DATABASE, MLFLOW, HOME = "openmlops.db", "mlflow.db", "home"
FOLDERS = (
    *("mlflow-artifacts", "data-versions", "object-store", "dvc-cache", "dvc-remote", "indexes", "splits"),
    *("inputs", "zenml", "console", "left-out"),
)
KEY = "console.key"
BLOCK_BYTES = 1 << 20
MOST_LISTING_BYTES = 256 * 1024**2


class Copied(Value):
    """One file: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


class Listing(Value):
    """What a backup holds, its last member. `files` by name in the archive."""

    openmlops: str
    at: datetime
    files: dict[str, Copied]


class Backup(Value):
    """A backup that was made and read again."""

    path: str
    files: int
    bytes: int
    has_keys: bool


def back_up(workspace: Workspace, path: Path, keys: bool = False) -> Backup:
    """Write a backup to `path` and read it again. With `keys`, the key that signs the console's sessions is in it.

    Raises SettingsError for a project on servers, ServiceUnavailable for a damaged database, DataError for a file that cannot
    be written, DataCorrupt if the backup is not what was written.
    """
    require_embedded(workspace, "backed up")
    if path.is_dir():
        raise SettingsError(f"{path} is a folder", "Name a file, such as project.tar")
    try:
        with replacing(path) as beside, temporary_folder(workspace.home, ".backup.") as scratch:
            listing = _write(workspace, beside, scratch, keys, "gz" if path.name.endswith(("gz", "tgz")) else "")
            beside.chmod(PRIVATE)
            if verified(beside) != listing:
                raise DataCorrupt(f"{path} is not what was written", "Check the disk, and back up again")
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error})", "Free disk space, or name another file"
        ) from error
    size = path.stat().st_size
    return Backup(path=str(path), files=len(listing.files), bytes=size, has_keys=f"{HOME}/{KEY}" in listing.files)


def require_embedded(workspace: Workspace, done: str) -> None:
    """Raises SettingsError unless database and MLflow are files."""
    settings = workspace.settings
    remedy = "Use its own tools, such as pg_dump and pg_restore: docs/operations.md, Backups"
    if not is_embedded(settings.database):
        raise SettingsError(f"DATABASE_URL is on a server, which is not {done} by this command", remedy)
    if not settings.tracking_uri.startswith("sqlite:///"):
        raise SettingsError(f"MLFLOW_TRACKING_URI is a server, which is not {done} by this command", remedy)


def databases(workspace: Workspace) -> dict[str, Path]:
    """Where the databases are, by name in the archive."""
    urls = {DATABASE: workspace.settings.database, MLFLOW: workspace.settings.tracking_uri}
    return {name: Path(str(make_url(url).database)) for name, url in urls.items()}


def verified(path: Path) -> Listing:
    """The listing of a backup whose every file is what it says. Raises DataCorrupt, DataError for a file that is none."""
    found: dict[str, Copied] = {}
    listing: Listing | None = None
    for member, content in members(path):
        if member.name == LISTING:
            listing = _parsed(path, b"".join(blocks(path, content)) if member.size <= MOST_LISTING_BYTES else b"")
        else:
            found[member.name] = found[member.linkname] if member.islnk() else _measured(path, content)
    if listing is None or listing.files != found:
        raise _damaged(path, "its files are not those of its listing")
    return listing


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, BufferedReader]]:
    """The files of a backup with their content; a link has none. Raises DataCorrupt, DataError."""
    last = ""
    try:
        with open_tar(path) as archive:
            for member in archive:
                if not (member.isreg() or member.islnk()) or not all(map(_is_inside, (member.name, member.linkname))):
                    raise _damaged(path, f"it has a member that no backup has: {member.name[:80]!r}")
                last = member.name
                yield member, archive.extractfile(member) if member.isreg() else BytesIO()  # type: ignore[misc]
    except BROKEN as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})", "Name a file made by openmlops backup") from error
    if last != LISTING:
        raise _damaged(path, "its end is missing")


def _write(workspace: Workspace, path: Path, scratch: Path, keys: bool, compression: str) -> Listing:
    files: dict[str, Copied] = {}
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, file in _sources(workspace, keys):
            try:
                _add(archive, files, name, _still(file, scratch))
            except FileNotFoundError:  # deleted meanwhile, as an input beyond its retention is
                continue
        listing = Listing(openmlops=__version__, at=datetime.now(UTC), files=files)
        content = listing.model_dump_json().encode()
        info = tarfile.TarInfo(LISTING)
        info.size = len(content)
        archive.addfile(info, BytesIO(content))
    return listing


def _sources(workspace: Workspace, keys: bool) -> Iterator[tuple[str, Path]]:
    """Name in the archive and place of each file, the database first."""
    for name, place in databases(workspace).items():
        if place.is_file():
            yield name, place
    for folder in FOLDERS:
        for path in sorted((workspace.home / folder).rglob("*")):
            if path.is_file() and not path.is_symlink() and not _is_transient(path):
                yield f"{HOME}/{path.relative_to(workspace.home).as_posix()}", path
    if keys and (workspace.home / KEY).is_file():
        yield f"{HOME}/{KEY}", workspace.home / KEY


def _is_transient(path: Path) -> bool:
    """Whether a file belongs to a process: a lock, a journal, or one that is being written."""
    return path.name.startswith(".") or path.name.endswith((".lock", *JOURNALS))


def _still(file: Path, scratch: Path) -> Path:
    """The file, or a copy of a database as it is at one moment."""
    if not is_sqlite(file):
        return file
    copy = scratch / "copy.db"
    copy.unlink(missing_ok=True)
    copy_online(file, copy, BUSY_SECONDS)
    return copy


def _add(archive: tarfile.TarFile, files: dict[str, Copied], name: str, file: Path) -> None:
    with opened(file) as content:
        info = archive.gettarinfo(arcname=name, fileobj=content)
        if info.islnk():
            archive.addfile(info)
            files[name] = files[info.linkname]
            return
        hashing = _Hashing(content)
        archive.addfile(info, hashing)  # type: ignore[arg-type]
    files[name] = Copied(size=info.size, sha256=hashing.sha256.hexdigest())


class _Hashing:
    """A file that is hashed while it is read."""

    def __init__(self, file: BufferedReader) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        self.sha256.update(block := self._file.read(size))
        return block


def blocks(path: Path, content: BufferedReader) -> Iterator[bytes]:
    """The content of a member of the backup at `path`. Raises DataCorrupt."""
    try:
        while block := content.read(BLOCK_BYTES):
            yield block
    except BROKEN as error:
        raise _damaged(path, str(error)) from error


def _measured(path: Path, content: BufferedReader) -> Copied:
    sha256, size = hashlib.sha256(), 0
    for block in blocks(path, content):
        sha256.update(block)
        size += len(block)
    return Copied(size=size, sha256=sha256.hexdigest())


def _parsed(path: Path, content: bytes) -> Listing:
    try:
        return Listing.model_validate(json.loads(content))
    except (ValueError, ValidationError) as error:
        raise _damaged(path, "its listing cannot be read") from error


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and os.path.normpath(name or "a") != "."


def _damaged(path: Path, why: str) -> DataCorrupt:
    return DataCorrupt(f"{path} is not a whole backup: {why}", "Use another backup")
