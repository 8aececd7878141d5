"""Copies of files and folders, which share bytes where the file system can do that."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openmlops import disk
from openmlops.errors import DataError
from openmlops.files.paths import real
from openmlops.files.reading import THREADS, opened
from openmlops.files.writing import place_bytes, placing

_FICLONE = 0x40049409
"""Linux' request to make a file share the bytes of another, copied when either is written"""


def copy_file(source: Path, target: Path) -> None:
    """Write the content of `source` to `target`; the bytes are shared if the file system copies them when they are written.

    `target` has a mode of its own, and is removed if it cannot be written. Raises OSError.
    """
    try:
        with disk.named(target, source.stat().st_size):
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
    with disk.named(target, source.stat().st_size), placing(target) as beside:
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
