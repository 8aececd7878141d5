"""The lock on changing a database's schema: one process at a time, on each of the databases that we support."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from openmlops.adapters.database_errors import place, sqlite_path, unavailable
from openmlops.errors import ServiceUnavailable

MIGRATION_SECONDS = 300
"""seconds that a process waits for another one that is migrating the schema"""
SHORT_SECONDS = 59
"""the same on MySQL and MariaDB, whose connections give up soon after"""
SCHEMA_LOCK = 7_305_519_441_007
"""key of PostgreSQL's advisory lock; an arbitrary number that no other program uses"""


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """Hold the exclusive lock on migrations of this database."""
    locks = {"sqlite": _file_lock, "postgresql": _postgresql_lock, "mysql": _mysql_lock, "mariadb": _mysql_lock}
    with locks[engine.dialect.name](engine):
        yield


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = sqlite_path(engine.url)
    if not path.parent.is_dir():  # the lock would make it again
        raise unavailable(engine.url, FileNotFoundError("its folder is gone"))
    lock = FileLock(f"{path}.lock", timeout=MIGRATION_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"Another process has been changing the schema of {place(engine.url)} for {MIGRATION_SECONDS} s"
        raise ServiceUnavailable(problem, "Try again when it has finished") from error
    except OSError as error:
        raise unavailable(engine.url, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _postgresql_lock(engine: Engine) -> Iterator[None]:
    with engine.begin() as connection:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = '{MIGRATION_SECONDS}s'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
        yield


@contextmanager
def _mysql_lock(engine: Engine) -> Iterator[None]:
    name = f"openmlops_schema_{engine.url.database}"[:64]
    with engine.connect() as connection:
        if not connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": SHORT_SECONDS}):
            problem = f"Another process has been changing the schema of {place(engine.url)} for {SHORT_SECONDS} s"
            raise ServiceUnavailable(problem, "Try again when it has finished")
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
