"""Upgrading the schema of a database that others may be using: who they are, whether they can go on, and a copy of before.

A step that only adds tables, columns that may be empty and indexes lets servers of one version back go on. Steps that do more
say so (`EXPANDS = False`) and wait until nobody else is connected.
"""

import os
import sqlite3
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path

from sqlalchemy import Engine, text

from openmlops.adapters import database
from openmlops.adapters.database_errors import capital, place, sqlite_path
from openmlops.adapters.processes import PROC
from openmlops.adapters.sqlite_file import JOURNALS, copy_online
from openmlops.core.types import Value
from openmlops.errors import ServiceRefused

UNKNOWN = "another process"
MOST_NAMED = 5
CLOSING_SECONDS = 1.0
"""how long a server may list a connection that was closed, such as our own of before"""


class Upgrade(Value):
    """What was done: the schema before (None: the database was empty) and now, a copy of the file of before, and who else was
    connected meanwhile."""

    place: str
    before: str | None
    after: str
    copy_of_before: Path | None = None
    users: tuple[str, ...] = ()


def upgrade(url: str, only_alone: bool = False) -> Upgrade:
    """Upgrade the schema of the database at `url`, an SQLite file after a copy beside it.

    `only_alone`: not while anybody else has it open. Raises ServiceRefused that names who is connected, if they could not go
    on; otherwise as `database.connect` does.
    """
    where = database.describe(url)
    if where.revision in (None, database.HEAD) or where.revision > database.HEAD:
        database.connect(url).dispose()
        return Upgrade(place=where.place, before=where.revision, after=database.HEAD)
    engine = database.connect_without_migrating(url)
    try:
        users = users_of(engine)
        if users and (only_alone or not all(map(expands, migrations_after(where.revision)))):
            raise _in_use(engine, users)
        copy = _copied(engine, where.revision)
    finally:
        engine.dispose()
    database.connect(url, migrate=True).dispose()
    return Upgrade(place=where.place, before=where.revision, after=database.HEAD, copy_of_before=copy, users=users)


def users_of(engine: Engine) -> tuple[str, ...]:
    """Who else is connected to the database, as far as this role may see it."""
    engine.dispose()
    if engine.dialect.name == "sqlite":
        path = sqlite_path(engine.url)
        return _processes_with(path) or (() if _is_alone(path) else (UNKNOWN,))
    query = {
        "postgresql": "SELECT DISTINCT coalesce(nullif(application_name, ''), usename, 'unnamed') FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "SELECT DISTINCT concat(user, '@', host) FROM information_schema.processlist"
        " WHERE db = database() AND id <> connection_id()",
    }["postgresql" if engine.dialect.name == "postgresql" else "mysql"]
    with engine.connect() as connection:
        ended = time.monotonic() + CLOSING_SECONDS
        while (found := tuple(sorted(map(str, connection.scalars(text(query)))))) and time.monotonic() < ended:
            connection.rollback()
            time.sleep(CLOSING_SECONDS / 10)
    engine.dispose()
    return found


def migrations_after(revision: str) -> list[str]:
    """The names of the migrations after a revision."""
    found = sorted(path.stem for path in (database.MIGRATIONS / "versions").glob("m[0-9]*.py"))
    return [name for name in found if name[1:5] > revision]


def expands(name: str) -> bool:
    """Whether servers of the version before a migration can go on after it."""
    return bool(getattr(import_module(f"openmlops.adapters.migrations.versions.{name}"), "EXPANDS", True))


def _in_use(engine: Engine, users: tuple[str, ...]) -> ServiceRefused:
    named = ", ".join(users[:MOST_NAMED]) + (f" and {len(users) - MOST_NAMED} more" if len(users) > MOST_NAMED else "")
    problem = f"{capital(place(engine.url))} needs an upgrade to schema {database.HEAD} and is in use by {named}"
    return ServiceRefused(problem, "Stop these, then run: openmlops upgrade")


def _copied(engine: Engine, revision: str) -> Path | None:
    if engine.dialect.name != "sqlite":
        return None
    path = sqlite_path(engine.url)
    copy, part = path.with_name(f"{path.name}.schema-{revision}"), path.with_name(f".{path.name}.schema-{revision}.part")
    part.unlink(missing_ok=True)
    copy_online(path, part, database.BUSY_SECONDS)
    os.replace(part, copy)
    return copy


def _processes_with(path: Path) -> tuple[str, ...]:
    """The other processes that have the file or its log open, of those that this user may look at."""
    files = {_identity(path.with_name(path.name + end)) for end in ("", *JOURNALS)} - {None}
    found = []
    for folder in PROC.glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            is_open = any(_identity(fd) in files for fd in (folder / "fd").iterdir())
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is another user's
            continue
        if is_open:
            found.append(f"'{_command(words)}' (process {folder.name})")
    return tuple(sorted(found))


def _command(words: list[str]) -> str:
    """A command as its user gave it, without the interpreter and options, which may hold passwords."""
    names = [Path(word).name for word in words if word and not word.startswith("-")]
    start = next((index for index, name in enumerate(names) if "openmlops" in name), 0)
    return " ".join(names[start : start + 2]) or "unnamed"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_alone(path: Path) -> bool:
    """Whether nobody has the file open, whoever they are: in WAL mode SQLite itself knows."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
    return True
