"""A full disk, told alike whoever meets it: the system, SQLite, or a library that wraps what they say in its own error."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openmlops.errors import DiskFull

AGAIN = "Free some space, or use another disk; the same command goes on then"

LITTLE_BYTES = 64 * 1024
"""free bytes below which a disk counts as full for SQLite"""
_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORDS = ("no space left on device", "disk quota exceeded", "file too large", "database or disk is full", "os error 28")


def is_full(error: BaseException) -> bool:
    """Whether a full disk, quota or limit on file sizes is the error, or what it was raised from."""
    return any(
        (isinstance(each, OSError) and each.errno in _CODES) or any(words in str(each).lower() for words in _WORDS)
        for each in _causes(error)
    )


def words(error: BaseException) -> str:
    """What says that a disk is full, in one line."""
    found = next(each for each in _causes(error) if is_full(each))
    return str(getattr(found, "strerror", None) or found).strip().splitlines()[0][:200]


def full(place: Path, needed: int | None = None) -> DiskFull:
    """The error of a full disk at `place`. `needed`: bytes that were to be written there, if that is known."""
    free = free_bytes(place)
    missing = "" if needed is None or needed <= free else f"; {needed:,} were to be written, {needed - free:,} are missing"
    return DiskFull(f"The disk of {place} is full: {free:,} bytes are free{missing}", AGAIN)


def refusal(error: BaseException) -> DiskFull | None:
    """The error to tell of instead, if a full disk caused this one and it is known where."""
    for each in _causes(error):
        if isinstance(each, DiskFull):
            return each
        if isinstance(each, OSError) and each.errno in _CODES and each.filename:
            return full(Path(str(each.filename)), getattr(each, "needed", None))
    return None


def why_sqlite_is_full(said: str, path: Path) -> str:
    """How many bytes are free, if a full disk is why SQLite said that of a file: where its journal does not fit, it speaks of
    an I/O error. Empty if it is not."""
    free = free_bytes(path)
    if any(each in said.lower() for each in _WORDS) or ("disk I/O error" in said and free < LITTLE_BYTES):
        return f"{free:,} bytes are free"
    return ""


@contextmanager
def named(path: Path | str, needed: int | None = None) -> Iterator[None]:
    """Let an error of a full disk in the block name the file that was to be written, and how large it was to be."""
    try:
        yield
    except OSError as error:
        if error.errno in _CODES:
            error.filename = str(path)
            if needed is not None:
                error.needed = needed  # type: ignore[attr-defined]
        raise


def free_bytes(place: Path) -> int:
    """Bytes that a user may still write on the disk of a path, which need not exist."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, the outermost first."""
    known: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in known:
        known.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
