"""Files that are whole or not there: atomic writing, SHA-256, and the manifest that seals a folder.

A manifest is our own answer to "are these the bytes that were recorded?"; neither DVC nor MLflow asks that by default.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openmlops.core.types import Value
from openmlops.errors import DataCorrupt, SettingsError

MANIFEST = "manifest.json"
MOST_NAME_BYTES = 200
MOST_PATH_BYTES = 3000
"""what file systems take, less what is put around a name while it is written, or after it"""


def absolute(path: Path) -> Path:
    """`path` from the root on, `~` and links resolved, there or not. Raises SettingsError for what cannot be a path."""
    try:
        found = path.expanduser().resolve()
    except (RuntimeError, ValueError, OSError):
        found = None
    if found is None or not _is_writable(found):
        problem = f"'{str(path)[:80]}' cannot be a path"
        raise SettingsError(problem, f"Use names of at most {MOST_NAME_BYTES} bytes without control characters")
    return found


def _is_writable(path: Path) -> bool:
    """Can it be told, and can file systems take it?"""
    names = [len(os.fsencode(part)) for part in path.parts]
    return str(path).isprintable() and max(names) <= MOST_NAME_BYTES and sum(names) + len(names) <= MOST_PATH_BYTES


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it is fsynced and renamed over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    beside.chmod(0o644)
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; when the block ends well it takes its place, else `folder` stays as it was.

    One writer at a time. What a killed writer left is put right by the next: the old folder comes back if the new one had not
    taken its place.
    """
    new, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write all of `content` to `path`, or leave what was there."""
    with replacing(path) as beside:
        beside.write_bytes(content)
    return path


def write_text(path: Path, content: str) -> Path:
    """Write all of `content` to `path` as UTF-8, or leave what was there."""
    return write_bytes(path, content.encode())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class FileEntry(Value):
    """One file of a manifest: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


class Manifest(Value):
    """Relative POSIX path -> size and SHA-256 of every file below a folder, hidden files and the manifest itself left out."""

    files: dict[str, FileEntry]

    @classmethod
    def of(cls, folder: Path) -> "Manifest":
        """Read and hash every file below `folder`, symbolic links followed."""
        return cls(files={name: FileEntry(size=p.stat().st_size, sha256=sha256_of(p)) for name, p in _files(folder)})

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a written manifest. Raises DataCorrupt if it is not one."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataCorrupt(f"{path} cannot be read ({error.strerror})", "Restore it or add the data again") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Manifest":
        """The manifest of these bytes, called `name` in the DataCorrupt that is raised if they are not one."""
        try:
            return cls.model_validate_json(content)
        except ValueError as error:
            problem = f"{name} is not a readable manifest ({type(error).__name__})"
            raise DataCorrupt(problem, "Restore it or add the data again") from error

    def write(self, path: Path) -> Path:
        """Write it in the canonical form that `fingerprint` is the SHA-256 of."""
        return write_bytes(path, self.canonical())

    def canonical(self) -> bytes:
        """Sorted JSON without needless white space: the same content always has the same bytes."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form: the version of the folder's content."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def differences(self, folder: Path) -> tuple[str, ...]:
        """What in `folder` is not as recorded, one phrase a file; empty when all is well."""
        present = dict(_files(folder)) if folder.is_dir() else {}
        found = [f"{name} is missing" for name in sorted(self.files.keys() - present.keys())]
        found += [f"{name} is not in the manifest" for name in sorted(present.keys() - self.files.keys())]
        for name in sorted(self.files.keys() & present.keys()):
            size = present[name].stat().st_size
            if size != self.files[name].size:
                found.append(f"{name} has {size} bytes instead of {self.files[name].size}")
            elif sha256_of(present[name]) != self.files[name].sha256:
                found.append(f"{name} has another content than recorded (SHA-256)")
        return tuple(found)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts) and relative.as_posix() != MANIFEST:
            yield relative.as_posix(), path
