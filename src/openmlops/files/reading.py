"""Reading files whole, and their SHA-256."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from openmlops.errors import DataError

THREADS = min(8, os.cpu_count() or 1)
T = TypeVar("T")


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
