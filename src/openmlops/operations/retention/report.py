"""The account of a pruning: what was deleted, what stays, and why."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from openmlops.core.types import Value


class Pruned(Value):
    """One kind of thing. `deleted` counts what was deleted, or would be; `bytes` is its size, None where nobody knows it.

    `oldest` is the time of the oldest that stays, None if there is none; `why` says what keeps things longer than their limit.
    """

    what: str
    deleted: int
    bytes: int | None
    oldest: datetime | None
    why: str


class PruneReport(Value):
    """One pruning: the object that `openmlops prune --json` prints. `problems`: kinds that could not be pruned, and why."""

    dry_run: bool
    pruned: tuple[Pruned, ...]
    problems: tuple[str, ...] = ()

    @property
    def deleted(self) -> int:
        """Number of things deleted."""
        return sum(each.deleted for each in self.pruned)

    @property
    def bytes(self) -> int:
        """Their known size."""
        return sum(each.bytes or 0 for each in self.pruned)


def limit(now: datetime, days: float) -> datetime | None:
    """The time before which things of an age limit are too old; None if there is no limit, or if it is beyond the calendar."""
    try:
        return now - timedelta(days=days) if days else None
    except OverflowError:
        return None


def size(count: int) -> str:
    """Bytes in the unit that suits."""
    if count < 1024:
        return f"{count} B"
    value, units = float(count), iter(("KiB", "MiB", "GiB", "TiB"))
    while (value := value / 1024) >= 1024:
        next(units)
    return f"{value:.1f} {next(units)}"


def folder_bytes(folder: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Size of the files below a folder, or of a file; 0 if there is none. Several links to a file count once, also over several
    calls with the same `seen`."""
    if not folder.is_dir():
        return folder.stat().st_size if folder.is_file() else 0
    total, seen = 0, set() if seen is None else seen
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(place, name))
            except FileNotFoundError:
                continue
            if found.st_nlink == 1 or (found.st_dev, found.st_ino) not in seen:
                total += found.st_size
            if found.st_nlink > 1:
                seen.add((found.st_dev, found.st_ino))
    return total
