"""The input images sent to the server, content-addressed: one file per image, named by its SHA-256; the oldest are pruned.

Files are written atomically but not fsynced: after a power failure, as after pruning, the log may refer to an input that is
missing. Readers must expect that.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from openmlops.adapters.input_places import Place
from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable
from openmlops.files import PRIVATE, PRIVATE_FOLDER, place_bytes

KEEP_SHARE = 0.9
"""share of the limit to which pruning reduces the store, so that it is not due again immediately"""


PROBE_BYTES = 16 * 1024


@dataclass(frozen=True)
class Pruned:
    """The result of pruning: files and bytes removed, files and bytes kept, and when the oldest of these was last sent (seconds
    since the epoch, 0 if there is none)."""

    removed: int
    files: int
    bytes: int
    removed_bytes: int = 0
    oldest: float = 0.0


class InputStore:
    """A folder of inputs. Safe to share between threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = str(folder)
        self._refused = 0

    @property
    def folder(self) -> Path:
        """The folder."""
        return self._folder

    def path(self, sha256: str) -> Path:
        """The path of the input with this SHA-256, whether it exists or not."""
        return self._folder / sha256[:2] / sha256

    groups = False
    """whether the inputs of several batches are better stored at once"""

    def put_all(self, contents: Sequence[bytes], names: Sequence[str]) -> list[Place | None]:
        """Store inputs under their SHA-256. No place has to be noted. Raises ServiceUnavailable."""
        for content, sha256 in zip(contents, names, strict=True):
            self.put(content, sha256)
        return [None] * len(names)

    def put(self, content: bytes, sha256: str) -> None:
        """Store one input under its SHA-256 (`sha256_of`). An existing one counts as new again for pruning; a damaged one is
        replaced.

        Raises ServiceUnavailable if it cannot be written.
        """
        path = f"{self._root}/{sha256[:2]}/{sha256}"
        try:
            if _holds(path, content):
                os.utime(path)
            else:
                self._place(path, content)
        except OSError as error:
            self._refused = len(content)
            problem = f"The input {path} cannot be stored ({error.strerror})"
            raise ServiceUnavailable(problem, "Free disk space, or lower RETENTION_INPUTS_GIB") from error

    def make(self) -> None:
        """Make the folder. Only whoever begins to use it does: a home that was moved away is not made again."""
        self._folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)

    def _place(self, path: str | Path, content: bytes) -> None:
        try:
            place_bytes(path, content, PRIVATE)
        except FileNotFoundError:
            for folder in (self._root, os.path.dirname(path)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, PRIVATE_FOLDER)
            place_bytes(path, content, PRIVATE)

    def probe(self) -> None:
        """Write a file and delete it again: whether inputs could be stored, as large as the one that was refused last.

        Raises ServiceUnavailable.
        """
        path = self._folder / f".probe.{os.getpid()}"
        try:
            self._place(path, bytes(max(PROBE_BYTES, self._refused)))
            path.unlink()
        except OSError as error:
            problem = f"Inputs cannot be stored in {self._folder} ({error.strerror})"
            raise ServiceUnavailable(problem, "Free disk space, or lower RETENTION_INPUTS_GIB") from error
        self._refused = 0

    def holds(self, sha256: str) -> bool:
        """Whether an input is stored."""
        return self.path(sha256).is_file()

    def held(self, names: Collection[str]) -> frozenset[str]:
        """Those of the inputs that are stored."""
        return frozenset(filter(self.holds, names))

    def read(self, sha256: str) -> bytes:
        """The input. Raises DataError if it is not (or no longer) stored, DataCorrupt if its hash does not match."""
        try:
            content = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise not_stored(sha256) from None
        if sha256_of(content) != sha256:
            raise DataCorrupt(f"The kept input {self.path(sha256)} has content that does not match its name", "Remove the file")
        return content

    def prune(self, max_bytes: float | None, oldest: float, dry: bool = False, needed: Set[str] = frozenset()) -> Pruned:
        """Delete inputs last sent before `oldest` (seconds since the epoch) and, above `max_bytes`, the oldest ones, but for
        those that are `needed`.

        One process prunes at a time; any other returns immediately without pruning. With `dry` nothing is deleted.
        """
        if not self._folder.is_dir():
            return Pruned(0, 0, 0)
        if dry:
            return self._prune(max_bytes, oldest, dry, needed)
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._folder / ".prune.lock", timeout=0):
                return self._prune(max_bytes, oldest, dry, needed)
        except Timeout:
            return Pruned(0, 0, 0)

    def newest(self) -> datetime | None:
        """When an input was last sent; None if there is none. Looks at every file."""
        newest = max((modified for modified, *_ in _sizes(self._folder)), default=None) if self._folder.is_dir() else None
        return None if newest is None else datetime.fromtimestamp(newest, UTC)

    def size(self) -> Pruned:
        """What is stored now."""
        return self.prune(None, 0.0, dry=True)

    def _prune(self, max_bytes: float | None, oldest: float, dry: bool, needed: Set[str]) -> Pruned:
        files = sorted(_sizes(self._folder))
        total = before = sum(size for _, size, _ in files)
        budget = total if max_bytes is None or total <= max_bytes else KEEP_SHARE * max_bytes
        gone: set[Path] = set()
        for modified, size, path in files:
            if modified >= oldest and total <= budget:
                break
            if path.name in needed:
                continue
            if not dry:
                path.unlink(missing_ok=True)
            total -= size
            gone.add(path)
        first = next((modified for modified, _, path in files if path not in gone), 0.0)
        return Pruned(len(gone), len(files) - len(gone), total, before - total, first)


def not_stored(sha256: str) -> DataError:
    """The error that an input is not there."""
    remedy = "Raise RETENTION_INPUTS_DAYS and RETENTION_INPUTS_GIB for future inputs"
    return DataError(f"The input {sha256} is not stored, or no longer", remedy)


def sha256_of(content: bytes) -> str:
    """The name of an input: SHA-256 of its content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _holds(path: str, content: bytes) -> bool:
    """Whether the file has this content, neither less nor more of it."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.fstat(file.fileno()).st_size == len(content) and file.readall() == content
    except FileNotFoundError:
        return False


def _sizes(folder: Path) -> list[tuple[float, int, Path]]:
    """(modified, size, path) of every file two levels down, including temporary ones of killed processes."""
    found = []
    for shard in folder.iterdir():
        for path in shard.iterdir() if shard.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    return found
