"""The images that were sent to the server, kept by content: one file an image, named by its SHA-256, the oldest pruned.

Whole or not there, but not forced to disk one by one: after a power failure the log may name an input that is gone, as it
may after pruning. What reads them must expect both.
"""

import contextlib
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from openmlops.errors import DataCorrupt, DataError, ServiceUnavailable

KEEP_SHARE = 0.9
"""how full of its limit pruning leaves the store, so that it is not due again at once"""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Pruned:
    """What pruning did: files removed, files and bytes that stay."""

    removed: int
    files: int
    bytes: int


class InputStore:
    """A folder of inputs. Safe to share between threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = str(folder)

    def path(self, sha256: str) -> Path:
        """Where the input with this SHA-256 is, or would be."""
        return self._folder / sha256[:2] / sha256

    def put(self, content: bytes, sha256: str) -> None:
        """Keep one input under its SHA-256 (`sha256_of`). One that is there already counts as new again for pruning.

        Raises ServiceUnavailable when it cannot be written.
        """
        path = f"{self._root}/{sha256[:2]}/{sha256}"
        try:
            os.utime(path)
        except FileNotFoundError:
            try:
                _write(path, content)
            except OSError as error:
                problem = f"The input {path} cannot be kept ({error.strerror})"
                raise ServiceUnavailable(problem, "Make room, or lower the retention limit") from error

    def holds(self, sha256: str) -> bool:
        """Whether an input is still kept."""
        return self.path(sha256).is_file()

    def read(self, sha256: str) -> bytes:
        """The input. Raises DataError if it is not kept (any more), DataCorrupt if its content is another."""
        try:
            content = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise DataError(f"The input {sha256} is not kept (any more)", "Raise the retention limit for later ones") from None
        if sha256_of(content) != sha256:
            raise DataCorrupt(f"The kept input {self.path(sha256)} has another content than its name says", "Remove the file")
        return content

    def prune(self, max_bytes: int, oldest: float) -> Pruned:
        """Remove what was last sent before `oldest` (seconds since the epoch) and, beyond `max_bytes`, the oldest.

        One process prunes at a time; any other returns at once, having done nothing.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / ".prune.lock", timeout=0):
                return self._prune(max_bytes, oldest)
        except Timeout:
            return Pruned(0, 0, 0)

    def _prune(self, max_bytes: int, oldest: float) -> Pruned:
        files = sorted(_sizes(self._folder))
        total = sum(size for _, size, _ in files)
        budget = KEEP_SHARE * max_bytes if total > max_bytes else total
        removed = 0
        for modified, size, path in files:
            if modified >= oldest and total <= budget:
                break
            path.unlink(missing_ok=True)
            total, removed = total - size, removed + 1
        return Pruned(removed, len(files) - removed, total)


def sha256_of(content: bytes) -> str:
    """The name of an input: SHA-256 of its content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _write(path: str, content: bytes) -> None:
    """Plain calls on plain strings: this is done for every prediction, and pathlib costs as much as the file."""
    beside = f"{path}.{os.getpid()}.{threading.get_ident()}"
    try:
        handle = os.open(beside, _FLAGS, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(beside, _FLAGS, 0o644)
    with open(handle, "wb", buffering=0) as file:
        file.write(content)
    os.replace(beside, path)


def _sizes(folder: Path) -> list[tuple[float, int, Path]]:
    """(modified, size, path) of every file two levels down, unfinished ones of killed processes included."""
    found = []
    for shard in folder.iterdir():
        for path in shard.iterdir() if shard.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    return found
