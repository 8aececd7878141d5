"""Atomic file writes, copies that share bytes, SHA-256, and the manifest that seals a folder.

A manifest verifies that files have their recorded content, which neither DVC nor MLflow does by default.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from openmlops.core.types import Value
from openmlops.errors import DataCorrupt, DataError, SettingsError
from openmlops.names import composed, is_showable, is_shown
from openmlops.temporary import beginning, remove_leftovers, temporary_file

MANIFEST = "manifest.json"
READABLE = 0o644
"""mode of files that another user may copy"""
MOST_NAME_BYTES = 200
LONGEST_SUFFIX = ".jpeg"
MOST_PATH_BYTES = 3000
"""limit of path lengths in file systems, less the room for temporary names and suffixes"""
THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FICLONE = 0x40049409
"""Linux' request to make a file share the bytes of another, copied when either is written"""


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


def real(path: Path) -> Path:
    """`path` made absolute, links resolved, but for links that lead to themselves."""
    return Path(os.path.realpath(path))


def why_not_storable(name: str) -> str:
    """Why a file or folder of this name cannot be stored everywhere, in one word or two; empty if it can."""
    if not is_showable(name):
        return "characters that cannot be printed"
    if "\\" in name:
        return "a backslash"
    return f"more than {MOST_NAME_BYTES} bytes" if len(name.encode()) > MOST_NAME_BYTES else ""


def _is_writable(path: Path) -> bool:
    """Whether it can be encoded, and is short enough for file systems."""
    names = [len(os.fsencode(part)) for part in path.parts]
    return is_showable(str(path)) and max(names) <= MOST_NAME_BYTES and sum(names) + len(names) <= MOST_PATH_BYTES


def storable_name(stem: str) -> str:
    """`stem`, `composed`, or a name of our own if it is not UTF-8, is too long with a suffix, or `why_not_storable`."""
    content = os.fsencode(stem)
    if not why_not_storable(stem + LONGEST_SUFFIX):
        return composed(stem)
    kept = "".join(character if is_shown(character) and character != "\\" else "_" for character in stem)
    return f"{kept.encode()[: MOST_NAME_BYTES // 2].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:16]}"


def copy_file(source: Path, target: Path) -> None:
    """Write the content of `source` to `target`; the bytes are shared if the file system copies them when they are written.

    `target` has a mode of its own, and is removed if it cannot be written. Raises OSError.
    """
    try:
        if not _reflinked(source, target):
            shutil.copyfile(source, target)
    except OSError:
        target.unlink(missing_ok=True)
        raise


def share_file(source: Path, target: Path) -> None:
    """Put the content of `source` at `target`, at once, and without using space for it twice if the file system can do that.

    A reflink; else a hard link, if `source` is read-only; else a copy. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with placing(target) as beside:
        if _reflinked(source, beside):
            return
        found = source.stat()
        if found.st_size and not found.st_mode & 0o222:  # empty ones: a file may have some thousand links only
            beside.unlink(missing_ok=True)
            try:
                os.link(real(source), beside)
            except OSError:  # on another disk, too many links, or not a file system that links
                pass
            else:
                return
        shutil.copyfile(source, beside)


def copy_read_file(source: Path, content: bytes, target: Path, reflinks: bool) -> None:
    """Write a file to `target` of which `content` was read from `source`, which is not read again. Raises OSError."""
    if not (reflinks and _reflinked(source, target)):
        place_bytes(target, content)


def has_reflinks(folder: Path) -> bool:
    """Whether files of this folder can share their bytes with others of its file system, until one is written."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        (probe := Path(place) / "one").write_bytes(b"probe")
        return _reflinked(probe, Path(place) / "other")


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Yield an unused name next to `path`; if the block succeeds the file made there is renamed to `path`."""
    remove_leftovers(path)
    beside = path.with_name(f"{beginning(path)}{secrets.token_hex(4)}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)  # also after success: renaming one link of a file to another does nothing


def _reflinked(source: Path, target: Path) -> bool:
    """Whether `target` was made to share the bytes of `source`. If not, it may be there, empty."""
    if sys.platform != "linux":
        return False
    import fcntl

    with opened(source) as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def copy_folder(
    folder: Path,
    out: Path,
    wanted: Callable[[Path], bool] = lambda path: True,
    copy: Callable[[Path, Path], None] = copy_file,
) -> None:
    """Copy the files below `folder` into `out`, links followed, without hidden ones and files or folders that are not `wanted`.

    The copies have modes of their own: a read-only source must not make them read-only. Raises DataError that names a file that
    cannot be copied.
    """
    pairs = list(_copies(folder, out, wanted))
    with ThreadPoolExecutor(THREADS) as pool:
        for (source, _), error in zip(pairs, pool.map(lambda pair: _tried(copy, *pair), pairs), strict=True):
            if error is not None:
                raise DataError(f"{source} cannot be copied ({error.strerror or error})", "Correct it, or remove it") from error


def _copies(folder: Path, out: Path, wanted: Callable[[Path], bool]) -> Iterator[tuple[Path, Path]]:
    """Source and target of each file to be copied. The folders are made."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not wanted(path):
            continue
        if path.is_dir():
            yield from _copies(path, out / path.name, wanted)
        else:
            yield path, out / path.name


def _tried(copy: Callable[[Path, Path], None], source: Path, target: Path) -> OSError | None:
    try:
        copy(source, target)
    except OSError as error:
        return error
    return None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; if the block succeeds it is fsynced and renamed to `path`. What a killed process
    left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path) as beside:
        beside.chmod(READABLE)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)


def copy(path: Path, source: Path) -> None:
    """Replace `path` by a copy of `source`, in one step."""
    with replacing(path) as beside:
        shutil.copyfile(source, beside)


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


def place_bytes(path: Path | str, content: bytes) -> None:
    """Write `content` to `path` atomically, in a folder that exists, without waiting for the disk: after a power failure the
    file may be missing or damaged. Raises OSError."""
    _place(path, content, 0o644, os.replace)


def create_bytes(path: Path, content: bytes, mode: int) -> None:
    """As `place_bytes`, but of several processes one creates the file, and the others get FileExistsError."""
    _place(path, content, mode, os.link)


def _place(path: Path | str, content: bytes, mode: int, put: Callable[[str, Path | str], None]) -> None:
    """With os calls on strings, because the server does this for every prediction."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name[:32]}.{secrets.token_hex(4)}")
    handle = os.open(beside, _NEW, mode)
    try:
        try:
            write_all(handle, content)
        finally:
            os.close(handle)
        put(beside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to an open file: a single write may stop early without an error. Raises OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def write_text(path: Path, content: str) -> Path:
    """Write `content` to `path` as UTF-8, atomically."""
    return write_bytes(path, content.encode())


def opened(path: Path) -> BufferedReader:
    """A file opened for reading. Raises OSError; also for a pipe, socket or device, whose reading could wait for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def content_of(path: Path) -> bytes:
    """The bytes of a file. Raises OSError as `opened` does."""
    with opened(path) as handle:
        return handle.read()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises OSError as `opened` does."""
    with opened(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256s_of(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the content of each file, read in threads. Raises DataError that names one that cannot be read."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda path: readable(path, sha256_of), paths))


def readable(path: Path, use: Callable[[Path], T]) -> T:
    """`use(path)`. Raises DataError that names a file that vanished or cannot be read."""
    try:
        return use(path)
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror or error})"
        raise DataError(problem, "Restore or remove it, then run the command again") from error


Hashing = Callable[[Sequence[Path]], list[str]]
"""gives the SHA-256 of each file"""


class FileEntry(Value):
    """One file of a manifest: its size in bytes and the SHA-256 of its content."""

    size: int
    sha256: str


class Manifest(Value):
    """Relative POSIX path -> size and SHA-256 of every file below a folder, except hidden files and the manifest itself."""

    files: dict[str, FileEntry]

    @classmethod
    def of(cls, folder: Path, hashed: Hashing = sha256s_of) -> "Manifest":
        """Hash every file below `folder`, following symbolic links. Raises DataError that names one that cannot be read."""
        present = dict(_files(folder))
        hashes = hashed(list(present.values()))
        sizes = map(_size, present.values())
        return cls(
            files={name: FileEntry(size=size, sha256=each) for name, size, each in zip(present, sizes, hashes, strict=True)}
        )

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

    def differences(self, folder: Path, hashed: Hashing = sha256s_of) -> tuple[str, ...]:
        """Differences between `folder` and the manifest, one phrase per file; empty if there are none."""
        present = dict(_files(folder)) if folder.is_dir() else {}
        both = sorted(self.files.keys() & present.keys())
        sizes = {name: _size(present[name]) for name in both}
        alike = [name for name in both if sizes[name] == self.files[name].size]
        content = dict(zip(alike, hashed([present[name] for name in alike]), strict=True))
        found = [f"{name} is missing" for name in sorted(self.files.keys() - present.keys())]
        found += [f"{name} is not in the manifest" for name in sorted(present.keys() - self.files.keys())]
        for name in both:
            if name not in content:
                found.append(f"{name} has {sizes[name]} bytes instead of {self.files[name].size}")
            elif content[name] != self.files[name].sha256:
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


def _size(path: Path) -> int:
    return readable(path, Path.stat).st_size


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts) and relative.as_posix() != MANIFEST:
            yield relative.as_posix(), path
