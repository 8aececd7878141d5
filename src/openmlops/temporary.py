"""Temporary files and folders that do not outlive a killed process: the next one that works at the same place removes them.

A living process holds a lock (flock) on what it is writing; the system releases it when the process ends, however it ends.
Where a file system has no such locks, nothing is removed.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OLD_SECONDS = 3600.0
"""age of a file after which it is taken for a dead process's, if its name does not say that it would be locked"""
PART = ".part"
"""end of the names of files that are locked while they are written"""
MOST_OF_A_NAME = 32
"""characters of a file's name in that of its temporary file: a name of 255 bytes has no room for more"""

_RANDOM = "[a-z0-9_]{8}"
_FILE = re.compile(rf"(\..+\.){_RANDOM}({re.escape(PART)})?")
_found: dict[Path, dict[str, list[Path]]] = {}
"""folder -> beginning of a name -> what other processes had left when this process first wrote there"""


def beginning(path: Path) -> str:
    """How the names of temporary files of `path` begin."""
    return f".{path.name[:MOST_OF_A_NAME]}."


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty file next to `path`, locked, and removed afterwards unless it was renamed. What dead processes left of the
    same file is removed."""
    remove_leftovers(path)
    while True:
        handle, name = tempfile.mkstemp(prefix=beginning(path), suffix=PART, dir=path.parent)
        if _lock(handle) is None or _is(name, handle):
            break
        os.close(handle)  # another process took it for a dead one's before it was locked
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder below `parent`, locked, and removed afterwards. Those of dead processes with this prefix are
    removed."""
    for path in parent.glob(f"{prefix}*"):
        if re.fullmatch(_RANDOM, path.name.removeprefix(prefix)) and not path.lstat().st_mode & 0o077:
            _remove_if_dead(path)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
            try:
                handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # another one took it for a dead process's before it was locked
                continue
            try:
                if _lock(handle) is None or _is(name, handle):
                    yield Path(name)
                    return
            finally:
                os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove what dead processes left when they wrote `path`. A folder is listed once a process."""
    folder = path.parent.absolute()
    if folder not in _found:
        _found[folder] = _listed(folder)
    for left in _found[folder].pop(beginning(path), ()):
        with suppress(OSError):
            if left.name.endswith(PART) or time.time() - left.lstat().st_ctime > OLD_SECONDS:
                _remove_if_dead(left)


def _listed(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    with suppress(OSError):
        for name in os.listdir(folder):
            if fits := _FILE.fullmatch(name):
                found.setdefault(fits[1], []).append(folder / name)
    return found


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _lock(handle):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether the file was locked; None where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(name: str, handle: int) -> bool:
    """Whether the file of this name is still the one that is open."""
    try:
        return os.path.samestat(os.stat(name), os.fstat(handle))
    except FileNotFoundError:
        return False
