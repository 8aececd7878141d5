"""The hashes of files that were read before: a file whose inode, size and times are unchanged is not read again.

What is remembered is the file's inode, size, modification and change time, SHA-256 and MD5. Hard links share one entry. As in
git, nothing is remembered of a file that changed within the clock's resolution before it was read: a second change could leave
the same times. What is not here: damage that changes no times, which only reading finds (`read`).
"""

import hashlib
import os
import time
from collections.abc import Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from openmlops.files import readable, write_bytes

THREADS = min(8, os.cpu_count() or 1)
BLOCK_BYTES = 2**20
FILES_PER_TASK = 64
TICK_NS = 50_000_000
"""more than the clock's resolution in file systems of Linux and macOS"""
COARSE_TICK_NS = 2_500_000_000
"""that of file systems which store whole seconds, FAT every other one"""
MOST_DAYS = 60
"""days for which an entry is kept that no command used"""
_HEADER = "openmlops known hashes 1"
_DAY_SECONDS = 86_400


class Hashes(NamedTuple):
    """Hashes of one content, in hexadecimal: ours, and the name of DVC's object."""

    sha256: str
    md5: str


Key = tuple[int, int, int]
"""inode, size in bytes and modification time in nanoseconds"""
Stamp = tuple[int, int, int, int]
"""these, and the change time in nanoseconds, which links and modes change too"""


class KnownHashes:
    """Hashes by file, kept in the file `path`; without it for the life of this value. Not for use in several threads."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._stored: dict[Stamp, tuple[Hashes, int]] | None = None
        self._new: dict[Stamp, Hashes] = {}
        self._used: set[Stamp] = set()
        self._seen: dict[Key, Hashes] = {}

    def of(self, paths: Sequence[Path]) -> list[Hashes]:
        """The hashes of these files: unknown and changed ones are read. Raises DataError that names one that cannot be read."""
        stamps = [_stamp_of(path) for path in paths]
        return self._read_unknown(paths, stamps, [self._known(stamp) for stamp in stamps])

    def read(self, paths: Sequence[Path], but: Container[Key] = ()) -> list[Hashes]:
        """The hashes of these files, all of them read now, but for unchanged ones among `but`. Raises as `of`."""
        stamps = [_stamp_of(path) for path in paths]
        return self._read_unknown(paths, stamps, [self._seen.get(each[:3]) if each[:3] in but else None for each in stamps])

    def _read_unknown(self, paths: Sequence[Path], stamps: list[Stamp], found: list[Hashes | None]) -> list[Hashes]:
        unknown = [number for number, hashes in enumerate(found) if hashes is None]
        read = iter(self._read([paths[number] for number in unknown], [stamps[number] for number in unknown]))
        return [hashes or next(read) for hashes in found]

    def _read(self, paths: list[Path], stamps: list[Stamp]) -> list[Hashes]:
        if not paths:
            return []
        _settle(stamps)
        moment = time.time_ns()
        parts = [paths[start : start + FILES_PER_TASK] for start in range(0, len(paths), FILES_PER_TASK)]
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(chain.from_iterable(pool.map(lambda part: [_read(path) for path in part], parts)))
        for stamp, hashes in results:
            self._remember(stamp, hashes, moment)
        return [hashes for _, hashes in results]

    def sha256s(self, paths: Sequence[Path]) -> list[str]:
        """The SHA-256 of each file, as `of`."""
        return [hashes.sha256 for hashes in self.of(paths)]

    def read_sha256s(self, paths: Sequence[Path], but: Container[Key] = ()) -> list[str]:
        """The SHA-256 of each file, as `read`."""
        return [hashes.sha256 for hashes in self.read(paths, but)]

    def seen(self, found: os.stat_result, hashes: Hashes) -> "Key":
        """A file that this process wrote or read, with its state after the last byte; `follow` remembers it."""
        key = _stamp(found)[:3]
        self._seen[key] = hashes
        return key

    def follow(self, paths: Iterable[Path]) -> None:
        """Remember files that this process has read or written also after they were linked, unlinked or made read-only, which
        changes their change time but not their modification time."""
        stamps = [stamp for path in paths if self._known(stamp := _stamp_of(path)) is None]
        _settle(stamps)
        moment = time.time_ns()
        for stamp in stamps:
            if hashes := self._seen.get(stamp[:3]):
                self._remember(stamp, hashes, moment)

    def save(self) -> None:
        """Keep what is new for later processes. What cannot be kept is read again: no error."""
        if self._new and self.path is not None and self.path.parent.is_dir():
            today = int(time.time() / _DAY_SECONDS)
            entries = _load(self.path)
            entries |= {stamp: (entries[stamp][0], today) for stamp in self._used & entries.keys()}
            entries = {stamp: each for stamp, each in entries.items() if each[1] > today - MOST_DAYS}
            entries |= {stamp: (hashes, today) for stamp, hashes in self._new.items()}
            with suppress(OSError):
                _store(self.path, entries)
                self._stored, self._new = entries, {}

    def _known(self, stamp: Stamp) -> Hashes | None:
        if self._stored is None:
            self._stored = _load(self.path) if self.path else {}
        stored = self._stored.get(stamp)
        found = stored[0] if stored else self._new.get(stamp)
        if found is not None:
            self._used.add(stamp)
            self._seen[stamp[:3]] = found
        return found

    def _remember(self, stamp: Stamp | None, hashes: Hashes, moment: int) -> None:
        """`moment`: when the file's state was taken or its reading began, in nanoseconds."""
        if stamp is not None:
            self._seen[stamp[:3]] = hashes
            if max(stamp[2:]) + _tick(stamp) < moment:
                self._new[stamp] = hashes


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def state_of(path: Path) -> os.stat_result:
    """Raises DataError that names a file which is not there any more."""
    return readable(path, os.stat)


def _stamp_of(path: Path) -> Stamp:
    return _stamp(state_of(path))


def _tick(stamp: Stamp) -> int:
    return TICK_NS if stamp[3] % 1_000_000_000 else COARSE_TICK_NS


def _settle(stamps: list[Stamp]) -> None:
    """Wait for the clock to pass the last change of these files, so that they can be remembered."""
    now = time.time_ns()
    if any(now - TICK_NS <= max(stamp[2:]) <= now for stamp in stamps):
        time.sleep(TICK_NS / 1e9)


def _read(path: Path) -> tuple[Stamp | None, Hashes]:
    """The hashes of a file, and its stamp unless it changed meanwhile."""
    state, hashes = read_file(path)
    return state and _stamp(state), hashes


def read_file(path: Path) -> tuple[os.stat_result | None, Hashes]:
    """The hashes of a file, and its state unless it changed meanwhile. Raises DataError."""
    return readable(path, _read_file)


def _read_file(path: Path) -> tuple[os.stat_result | None, Hashes]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as handle:
        before = os.fstat(handle.fileno())
        while block := handle.read(BLOCK_BYTES):
            sha256.update(block)
            md5.update(block)
        after = os.fstat(handle.fileno())
    return after if _stamp(before) == _stamp(after) else None, Hashes(sha256.hexdigest(), md5.hexdigest())


def _load(path: Path) -> dict[Stamp, tuple[Hashes, int]]:
    """The entries of a file; none if it is missing or damaged."""
    try:
        header, seal, body = path.read_bytes().split(b"\n", 2)
        if header.decode() != _HEADER or hashlib.sha256(body).hexdigest() != seal.decode():
            return {}
        rows = (line.split() for line in body.decode().splitlines())
        return {
            (int(inode), int(size), int(mtime), int(ctime)): (Hashes(sha256, md5), int(day))
            for inode, size, mtime, ctime, sha256, md5, day in rows
        }
    except (OSError, ValueError):
        return {}


def _store(path: Path, entries: dict[Stamp, tuple[Hashes, int]]) -> None:
    rows = (f"{' '.join(map(str, stamp))} {hashes.sha256} {hashes.md5} {day}\n" for stamp, (hashes, day) in entries.items())
    body = "".join(rows).encode()
    write_bytes(path, b"\n".join((_HEADER.encode(), hashlib.sha256(body).hexdigest().encode(), body)))
