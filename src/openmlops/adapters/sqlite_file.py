"""The SQLite file of a database: that the path still is the file that is open, and what happens if it is not.

SQLite keeps writing to a file that was deleted, moved or replaced, which nobody can read any more. Here every transaction
begins with a look at the path (device and inode), and a write is acknowledged only if the path is the same file after its
commit. Another file in its place is used once it is whole, without the journal of the old one, which would destroy it.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

from openmlops import disk
from openmlops.errors import DiskFull, ServiceUnavailable
from openmlops.files import make_private, opened

MAGIC = b"SQLite format 3\0"
JOURNALS = ("-wal", "-shm")
RETRY_SECONDS = 0.5
"""how long a file that is not whole is not looked at again"""
_OPENED = "openmlops_file"

Identity = tuple[int, int]
"""device and inode"""

log = logging.getLogger(__name__)


class SqliteFile:
    """The file at `path`. `busy`: seconds that a statement waits for a lock. `adopt` migrates another file that took its place,
    before it is used; it raises ServiceUnavailable if it cannot. `mode`: SQLite's, if the URL names one."""

    def __init__(self, path: Path, busy: float, adopt: Callable[[], None], mode: str = "") -> None:
        self.path = path
        self._busy = busy
        self._adopt = adopt
        self._mode = mode
        self._known: Identity | None = None
        self._journals: set[Identity] = set()
        self._refused: tuple[Identity, float, ServiceUnavailable] | None = None
        self._alone = threading.Lock()

    def listen(self, engine: Engine) -> None:
        """Look at the path whenever a connection of the engine is taken from its pool."""
        event.listen(engine, "checkout", self._check)

    def open(self) -> sqlite3.Connection:
        """A new connection to the file; the first one creates it. Raises ServiceUnavailable."""
        with self._alone:
            before = identity(self.path)
            if self._known is not None and before != self._known:
                self._take(before)
            connection = self._connect(self._mode or ("rwc" if self._known is None else "rw"))
            try:
                self._prepare(connection)
                self._known = after = identity(self.path)
            except BaseException:
                connection.close()
                raise
            if after is None or before not in (None, after):
                connection.close()
                raise self._gone()
            self._journals |= {found for end in JOURNALS if (found := identity(self._journal(end)))}
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        if mode == "rwc":
            make_private(self.path)
        try:
            return sqlite3.connect(
                f"file:{quote(str(self.path))}?mode={mode}",
                uri=True,
                timeout=self._busy,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise unavailable(self.path, str(error)) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Explicit transactions, WAL mode, foreign keys enforced.

        Text that is no longer valid UTF-8 is still returned, so that the hash check can name the corrupt row.
        """
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA schema_version").fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: an error message that quotes a corrupt schema
            raise unavailable(self.path, str(error)) from error

    def _check(self, connection: object, record: object, proxy: object) -> None:
        info = record.info  # type: ignore[attr-defined]
        now = identity(self.path)
        if info.setdefault(_OPENED, self._known) != now:
            raise DisconnectionError

    def require_same(self, connection: Connection) -> None:
        """Raises ServiceUnavailable unless what the connection has committed is in the file at the path."""
        if connection.info.get(_OPENED) != identity(self.path):
            raise self._gone()

    def _take(self, found: Identity | None) -> None:
        """Go on with another file at the path, if there is one and it is whole."""
        if found is None:
            raise self._gone()
        if self._refused and self._refused[0] == found and time.monotonic() < self._refused[1]:
            raise self._refused[2]
        try:
            self._known = None  # a file of its own, which `adopt` opens
            self._set_journals_aside()
            self._require_whole()
            self._adopt()
        except ServiceUnavailable as error:
            self._known = (0, 0)
            self._refused = (found, time.monotonic() + RETRY_SECONDS, error)
            raise
        self._known, self._refused = found, None
        log.warning("%s is another file than before; going on with it", self.path)

    def _set_journals_aside(self) -> None:
        for end in JOURNALS:
            journal = self._journal(end)
            if identity(journal) in self._journals:
                kept = self.path.with_name(f"{self.path.name}.replaced{end}")
                os.replace(journal, kept)
                log.warning("%s belongs to the file that was replaced; it is now %s", journal, kept)

    def _require_whole(self) -> None:
        connection = self._connect("rw")
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            is_ours = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'ledger'").fetchone()[0]
        except sqlite3.Error as error:
            raise unavailable(self.path, f"another file, not whole: {error}") from error
        finally:
            connection.close()
        if found != ("ok",):
            raise unavailable(self.path, f"another file, damaged: {found[0]}")
        if not is_ours:
            raise unavailable(self.path, "another file, without the tables of OpenMLOps")

    def _journal(self, end: str) -> Path:
        return self.path.with_name(self.path.name + end)

    def _gone(self) -> ServiceUnavailable:
        return unavailable(self.path, "it was deleted, moved or replaced while it was open")


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    with opened(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def copy_online(path: Path, target: Path, busy: float) -> None:
    """Copy a database that may be in use, as it is at one moment, and check the copy. Raises ServiceUnavailable."""
    make_private(target)
    try:
        with closing(sqlite3.connect(path, timeout=busy)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise unavailable(path, str(error)) from error
    require_integrity(target, path)


def require_integrity(path: Path, named: Path) -> None:
    """Raises ServiceUnavailable, which names `named`, unless SQLite finds a database whole that nobody uses."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise unavailable(named, str(error)) from error
    if found != ("ok",):
        raise unavailable(named, f"damaged: {' '.join(found[0].split())}")


def exchange(path: Path, new: Path, kept: Path) -> None:
    """Put a database that nobody uses in place of one that may be in use, which becomes `kept`, with its journal.

    What was acknowledged by then is in `kept`; processes that use the old file notice, and go on with the new one. Raises
    OSError.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        for end in ("", *JOURNALS):
            with suppress(FileNotFoundError):
                os.replace(f"{path}{end}", f"{kept}{end}")
        os.replace(new, path)


def identity(path: Path) -> Identity | None:
    """Device and inode of a file or folder; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unavailable(path: Path, why: str) -> ServiceUnavailable:
    """The error of a file that cannot be used."""
    lines = why.strip().splitlines() or ["unknown error"]
    if why_full := disk.why_sqlite_is_full(why, path):
        return DiskFull(f"The SQLite file {path} cannot be used ({lines[0]}): {why_full}", disk.AGAIN)
    remedy = "Put it back, or restore a backup: openmlops restore FILE. Check DATABASE_URL if it should be elsewhere"
    if "readonly" in why or "unable to open" in why:
        remedy = "Give yourself the permission to write it and its folder, or work in a copy"
    return ServiceUnavailable(f"The SQLite file {path} cannot be used ({lines[0]})", remedy)
