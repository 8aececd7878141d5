"""Atomic writes: a file or folder is whole or not there."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openmlops import disk
from openmlops.temporary import beginning, remove_leftovers, temporary_file

READABLE = 0o644
"""mode of files that another user may copy"""
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
"""modes of what holds data of production: databases, inputs, logs, backups"""
SHARED = 0o444
"""mode of files that are never written again, so that a hard link is as good as a copy"""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; if the block succeeds it is fsynced and renamed to `path`. What a killed process
    left of it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk.named(path), temporary_file(path) as beside:
        beside.chmod(READABLE)
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, path)


def copy(path: Path, source: Path) -> None:
    """Replace `path` by a copy of `source`, in one step."""
    with disk.named(path, source.stat().st_size), replacing(path) as beside:
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
    with disk.named(path, len(content)), replacing(path) as beside:
        beside.write_bytes(content)
    return path


def place_bytes(path: Path | str, content: bytes, mode: int = READABLE) -> None:
    """Write `content` to `path` atomically, in a folder that exists, without waiting for the disk: after a power failure the
    file may be missing or damaged. Raises OSError."""
    _place(path, content, mode, os.replace)


def make_private(path: Path) -> None:
    """Make an empty file that its owner alone may read, unless there is a file: for databases, which keep its mode. Where it
    cannot be made, whoever opens it says why."""
    with suppress(OSError):
        os.close(os.open(path, _NEW, PRIVATE))


def create_bytes(path: Path, content: bytes, mode: int) -> None:
    """As `place_bytes`, but of several processes one creates the file, and the others get FileExistsError."""
    _place(path, content, mode, os.link)


def _place(path: Path | str, content: bytes, mode: int, put: Callable[[str, Path | str], None]) -> None:
    """With os calls on strings, because the server does this for every prediction."""
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{name[:32]}.{secrets.token_hex(4)}")
    with disk.named(path, len(content)):
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
