"""An object store: files under keys. The interface, and a folder that has it; for an S3 bucket see s3_store.py.

Uploads are idempotent by content: an object with the same SHA-256 is not uploaded again. A folder shares the bytes of the
files that are put into it, if the file system can. What is not here: the layout of keys (contents.py, operations), and DVC's
remote, which accesses S3 itself.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from openmlops import disk
from openmlops.adapters.known_hashes import KnownHashes
from openmlops.errors import DataCorrupt, DataError, DiskFull, ServiceUnavailable
from openmlops.files import MOST_NAME_BYTES, PRIVATE, READABLE, opened, place_bytes, replacing, share_file, why_not_storable
from openmlops.renamed import moved

MOST_KEY_CHARACTERS = 800
"""S3's limit is 1024 bytes"""


class Put(NamedTuple):
    """A file to be stored: its SHA-256 is compared with its content."""

    path: Path
    sha256: str


class Stored(NamedTuple):
    """An object: its key, its size in bytes, and when it was stored."""

    key: str
    size: int
    at: datetime


class ObjectStore(Protocol):
    """The interface of both stores. Keys are relative, parts separated by '/', none of them '.' or '..'; else DataError."""

    def ready(self) -> None:
        """Ensure that the store responds and can hold objects; creates the bucket if that is allowed."""

    def is_made(self) -> bool:
        """Whether the bucket or folder exists. Creates nothing. Raises ServiceUnavailable as `ready` does."""

    def put_file(self, key: str, path: Path, sha256: str, again: bool = False) -> bool:
        """Upload `path` unless its content exists already, or `again`; returns whether it did. Raises DataCorrupt if it is not
        `sha256`."""

    def put_files(self, prefix: str, files: Mapping[str, Put]) -> int:
        """`put_file` of many, whose keys all begin with `prefix`; returns how many were uploaded."""

    def put_bytes(self, key: str, content: bytes, private: bool = False) -> None:
        """Store small content of which no hash is kept: whoever reads it has one. `private`: no other user of the machine may
        read it."""

    def get_bytes(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        """The content of an object from `start` on, at most `size` bytes of it, not verified. Raises DataError if there is
        none."""

    def get_file(self, key: str, path: Path) -> Path:
        """Download an object to `path` atomically. Raises DataError if there is none, DataCorrupt if its hash differs."""

    def size(self, key: str) -> int | None:
        """Size of an object in bytes, None if there is none."""

    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    def written(self, key: str) -> datetime | None:
        """When the object was stored; None if there is none."""

    def list(self, prefix: str) -> list[str]:
        """Keys with this prefix, sorted."""

    def stored(self, prefix: str) -> tuple[Stored, ...]:
        """The objects whose keys have this prefix, in the order of these."""

    def delete(self, key: str) -> None:
        """Delete an object; does nothing if there is none."""

    def uri(self, key: str) -> str:
        """The object's URI, for display and for other tools."""


def checked(key: str) -> str:
    """`key`, if it is allowed. Raises DataError."""
    parts = key.split("/")
    if not {"", ".", ".."} & set(parts) and len(key) <= MOST_KEY_CHARACTERS and not any(map(why_not_storable, parts)):
        return key
    remedy = f"Use relative names separated by '/', without '..', each of at most {MOST_NAME_BYTES} bytes"
    raise DataError(f"The object key '{key[:MOST_KEY_CHARACTERS]}' is not allowed", remedy)


def require(path: Path, found: str, sha256: str) -> None:
    """Raise DataCorrupt unless the SHA-256 that was found of a file is this one."""
    if found != sha256:
        raise DataCorrupt(f"{path} differs from its recorded content (SHA-256)", "Pull the data set again")


def absent(uri: str) -> DataError:
    """The error that there is no such object."""
    return DataError(f"There is no object {uri}", "Upload the data set first")


class FolderStore:
    """Objects as files below a folder. `known`: hashes of files that need not be read again; whoever puts files lets it follow
    them, because they may have become links."""

    def __init__(self, folder: Path, known: KnownHashes | None = None) -> None:
        self.folder = folder
        self._known = known or KnownHashes()

    def ready(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_made(self) -> bool:
        return self.folder.is_dir()

    def put_file(self, key: str, path: Path, sha256: str, again: bool = False) -> bool:
        target = self._path(key)
        require(path, self._known.of([path])[0].sha256, sha256)
        held = target.is_file() and self._known.of([target])[0].sha256 == sha256
        if held and not again and (os.path.samefile(path, target) or not _is_shared(path)):
            return False
        try:
            share_file(path, target)
            if again:
                os.utime(target)
        except OSError as error:
            raise _not_stored(target, error) from error
        return not held

    def put_files(self, prefix: str, files: Mapping[str, Put]) -> int:
        return sum([self.put_file(key, *file) for key, file in files.items()])

    def put_bytes(self, key: str, content: bytes, private: bool = False) -> None:
        target = self._path(key)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            place_bytes(target, content, PRIVATE if private else READABLE)
        except OSError as error:
            raise _not_stored(target, error) from error

    def get_bytes(self, key: str, start: int = 0, size: int | None = None) -> bytes:
        try:
            with opened(self._path(key)) as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except FileNotFoundError:
            raise absent(self.uri(key)) from None
        except OSError as error:
            problem = f"The object {self._path(key)} cannot be read ({error.strerror or error})"
            raise ServiceUnavailable(problem, "Make it readable") from error

    def get_file(self, key: str, path: Path) -> Path:
        if not self.exists(key):
            raise absent(self.uri(key))
        with replacing(path) as beside:
            shutil.copyfile(self._path(key), beside)
        return path

    def size(self, key: str) -> int | None:
        return self._path(key).stat().st_size if self.exists(key) else None

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def written(self, key: str) -> datetime | None:
        return _written(self._path(key).stat()) if self.exists(key) else None

    def list(self, prefix: str) -> list[str]:
        return [found.key for found in self.stored(prefix)]

    def stored(self, prefix: str) -> tuple[Stored, ...]:
        below = self.folder / prefix.rpartition("/")[0]
        found = []
        for path in below.rglob("[!.]*"):
            key = path.relative_to(self.folder).as_posix()
            if key.startswith(prefix) and path.is_file():
                state = path.stat()
                found.append(Stored(key, state.st_size, _written(state)))
        return tuple(sorted(found))

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            while (path := path.parent) != self.folder:
                path.rmdir()

    def uri(self, key: str) -> str:
        return self._path(key).resolve().as_uri()

    def _path(self, key: str) -> Path:
        return self.folder / checked(key)


def _written(state: os.stat_result) -> datetime:
    return datetime.fromtimestamp(state.st_mtime, UTC)


def _not_stored(target: Path, error: OSError) -> ServiceUnavailable:
    kind = DiskFull if disk.is_full(error) else ServiceUnavailable
    return kind(f"The object {target} cannot be stored ({error.strerror})", "Free disk space")


def _is_shared(path: Path) -> bool:
    """Whether a file is a hard link to DVC's cache, as data sets are unless the file system has reflinks or no links."""
    return path.stat().st_nlink > 1


__getattr__ = moved(__name__, "openmlops.adapters.s3_store")
