"""Atomic file writes, SHA-256, and the manifest that seals a folder.

A manifest verifies that files have their recorded content, which neither DVC nor MLflow does by default.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openmlops.core.types import Value
from openmlops.errors import DataCorrupt, DataError, SettingsError

MANIFEST = "manifest.json"
MOST_NAME_BYTES = 200
LONGEST_SUFFIX = ".jpeg"
MOST_PATH_BYTES = 3000
"""limit of path lengths in file systems, less the room for temporary names and suffixes"""


def absolute(path: Path) -> Path:
    """`path` made absolute, `~` and links resolved, whether it exists or not. Raises SettingsError for an invalid path."""
    try:
        found = path.expanduser().resolve()
    except (RuntimeError, ValueError, OSError):
        found = None
    if found is None or not _is_writable(found):
        problem = f"'{str(path)[:80]}' is not a valid path"
        raise SettingsError(problem, f"Use names of at most {MOST_NAME_BYTES} bytes without control characters")
    return found


def why_not_storable(name: str) -> str:
    """Why a file or folder of this name cannot be stored everywhere, in one word or two; empty if it can."""
    if not name.isprintable():
        return "characters that cannot be printed"
    if "\\" in name:
        return "a backslash"
    return f"more than {MOST_NAME_BYTES} bytes" if len(name.encode()) > MOST_NAME_BYTES else ""


def _is_writable(path: Path) -> bool:
    """Whether it can be encoded, and is short enough for file systems."""
    names = [len(os.fsencode(part)) for part in path.parts]
    return str(path).isprintable() and max(names) <= MOST_NAME_BYTES and sum(names) + len(names) <= MOST_PATH_BYTES


def storable_name(stem: str) -> str:
    """`stem`, or a name of our own for one that is not UTF-8, that with a suffix is too long, or that `why_not_storable`."""
    content = os.fsencode(stem)
    if not why_not_storable(stem + LONGEST_SUFFIX):
        return stem
    kept = "".join(character if character.isprintable() and character != "\\" else "_" for character in stem)
    return f"{kept.encode()[: MOST_NAME_BYTES // 2].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:16]}"


def copy_folder(folder: Path, out: Path, wanted: Callable[[Path], bool] = lambda path: True) -> None:
    """Copy the files below `folder` into `out`, links followed, without hidden ones and files or folders that are not `wanted`.

    The copies have modes of their own: a read-only source must not make them read-only. Raises DataError that names a file that
    cannot be copied.
    """
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not wanted(path):
            continue
        if path.is_dir():
            copy_folder(path, out / path.name, wanted)
            continue
        try:
            shutil.copyfile(path, out / path.name)
        except OSError as error:
            raise DataError(f"{path} cannot be copied ({error.strerror or error})", "Correct it, or remove it") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; if the block succeeds it is fsynced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", dir=path.parent)  # a name of 255 bytes has no room for more
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
    """Yield an empty folder next to `folder` that replaces it if the block succeeds; else `folder` is unchanged.

    One writer at a time. The next writer cleans up after a killed one: the old folder is restored unless the new one had
    already replaced it.
    """
    new, old = (folder.with_name(f".{folder.name}.{end}") for end in ("new", "old"))
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    _remove(new)
    new.mkdir(parents=True)
    try:
        yield new
        _remove(old)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _remove(old)
    finally:
        _remove(new)


def _remove(folder: Path) -> None:
    """Remove a folder of ours, also one whose folders are read-only."""
    for place, _, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(place, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write `content` to `path` atomically."""
    with replacing(path) as beside:
        beside.write_bytes(content)
    return path


def write_text(path: Path, content: str) -> Path:
    """Write `content` to `path` as UTF-8, atomically."""
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
    """Relative POSIX path -> size and SHA-256 of every file below a folder, except hidden files and the manifest itself."""

    files: dict[str, FileEntry]

    @classmethod
    def of(cls, folder: Path) -> "Manifest":
        """Hash every file below `folder`, following symbolic links."""
        return cls(files={name: FileEntry(size=p.stat().st_size, sha256=sha256_of(p)) for name, p in _files(folder)})

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest file. Raises DataCorrupt if it is invalid."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataCorrupt(f"{path} cannot be read ({error.strerror})", "Restore it or add the data again") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Manifest":
        """Parse a manifest. Raises DataCorrupt, which calls it `name`, if it is invalid."""
        try:
            return cls.model_validate_json(content)
        except ValueError as error:
            problem = f"{name} is not a readable manifest ({type(error).__name__})"
            raise DataCorrupt(problem, "Restore it or add the data again") from error

    def write(self, path: Path) -> Path:
        """Write it in its canonical form, whose SHA-256 is `fingerprint`."""
        return write_bytes(path, self.canonical())

    def canonical(self) -> bytes:
        """Sorted JSON without insignificant white space: equal manifests give equal bytes."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical form: the version of the folder's content."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def differences(self, folder: Path) -> tuple[str, ...]:
        """Differences between `folder` and the manifest, one phrase per file; empty if there are none."""
        present = dict(_files(folder)) if folder.is_dir() else {}
        found = [f"{name} is missing" for name in sorted(self.files.keys() - present.keys())]
        found += [f"{name} is not in the manifest" for name in sorted(present.keys() - self.files.keys())]
        for name in sorted(self.files.keys() & present.keys()):
            size = present[name].stat().st_size
            if size != self.files[name].size:
                found.append(f"{name} has {size} bytes instead of {self.files[name].size}")
            elif sha256_of(present[name]) != self.files[name].sha256:
                found.append(f"{name} differs from its recorded content (SHA-256)")
        return tuple(found)


def damage(folder: Path, sha256: str) -> str:
    """How a folder differs from its manifest, whose SHA-256 must be this one; empty if it does not."""
    try:
        manifest = Manifest.read(folder / MANIFEST)
    except DataCorrupt:
        return f"{MANIFEST} is missing or unreadable"
    if manifest.fingerprint != sha256:
        return f"{MANIFEST} differs from the registered one"
    return "; ".join(manifest.differences(folder))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts) and relative.as_posix() != MANIFEST:
            yield relative.as_posix(), path
