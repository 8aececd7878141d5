"""The database: an engine that waits for locks instead of failing, at the newest revision of the schema.

What is here: connecting, transactions, and migration. What is not: the meaning of the tables (`ledger`, `inference_log`), and
when an older schema may be upgraded (`schema_upgrade`).
SQLite by default, in WAL mode; PostgreSQL, MySQL and MariaDB by URL. Every failure of the database itself is a
ServiceUnavailable that names host and database, never the password.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError

from openmlops import disk
from openmlops.adapters.database_errors import capital, place, sqlite_path, translate
from openmlops.adapters.schema import HEAD, VERSION_TABLE
from openmlops.adapters.schema_lock import alone
from openmlops.adapters.sqlite_file import SqliteFile
from openmlops.core.types import Value
from openmlops.errors import DiskFull, ServiceRefused, ServiceUnavailable, SettingsError

BUSY_SECONDS = 60
"""seconds that a statement waits for a lock before it fails"""
CONNECT_SECONDS = 10
SILENT_SECONDS = 30
"""seconds without any response from the database's machine before it counts as unavailable"""
MIGRATIONS = Path(__file__).with_name("migrations")
FILE = "openmlops_file"
"""attribute of an engine's pool: its `SqliteFile`"""

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
_PRODUCTS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


def connect(url: str, migrate: bool = False) -> Engine:
    """An engine on the database of an SQLAlchemy URL, at schema `HEAD`. An empty database gets it; one of an older schema only
    with `migrate`, because the older servers that may use it are not asked (`schema_upgrade.upgrade` asks).

    Safe to call from any number of processes at once; takes one query if there is nothing to do. Raises SettingsError for an
    unsupported URL, ServiceUnavailable for a database that does not respond, ServiceRefused for one of another schema.
    """
    engine = _engine(url)
    if not _is_new_file(engine.url) and revision_of(engine) == HEAD:
        return engine
    with alone(engine):
        found = revision_of(engine)
        is_other = found is not None and found != HEAD and not migrate
        if found != HEAD and not is_other:
            _migrate(engine)
    if is_other:
        engine.dispose()
        raise _other_schema(engine.url, str(found))
    return engine


def connect_with_retries(url: str) -> Engine:
    """The same engine without connecting to a server yet: its first connection raises what `connect` raises."""
    if is_embedded(url):
        return connect(url)
    engine, alone, known = _engine(url), threading.Lock(), threading.Event()

    def bring_up(*connecting: object) -> None:
        with alone:
            if not known.is_set():
                connect(url).dispose()
                known.set()

    event.listen(engine, "do_connect", bring_up)
    return engine


def connect_without_migrating(url: str) -> Engine:
    """The same engine without migration, for readers that must not wait for one."""
    return _engine(url)


def is_embedded(url: str) -> bool:
    """Whether the database is a local SQLite file rather than a server. Raises SettingsError."""
    return _address(url).get_backend_name() == "sqlite"


def file_of(url: str) -> Path:
    """The file of an embedded database."""
    return sqlite_path(_address(url))


def _is_new_file(address: URL) -> bool:
    """Whether it is a new SQLite file, whose first connection enables WAL mode and must be the only one."""
    file = Path(str(address.database))
    return address.get_backend_name() == "sqlite" and not (file.exists() and file.stat().st_size)


class DatabaseInfo(Value):
    """A database's product and version, and the revision of our schema in it (None: not created yet)."""

    place: str
    product: str
    revision: str | None


def describe(url: str) -> DatabaseInfo:
    """Describe the database at `url` without changing or creating anything. Raises as `connect` does."""
    address = _address(url)
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists():
        return DatabaseInfo(place=place(address), product="SQLite", revision=None)
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            version = ".".join(map(str, connection.dialect.server_version_info or ()))
            product = "MariaDB" if getattr(connection.dialect, "is_mariadb", False) else _PRODUCTS[engine.dialect.name]
        return DatabaseInfo(place=place(address), product=f"{product} {version}".strip(), revision=revision_of(engine))
    finally:
        engine.dispose()


def size(engine: Engine) -> int:
    """Bytes that the database takes on the disk: of SQLite the file and its log, of a server what it says of our database."""
    name = engine.dialect.name
    if name == "sqlite":
        files = (Path(f"{engine.url.database}{end}") for end in ("", "-wal"))
        return sum(path.stat().st_size for path in files if path.exists())
    query = {
        "postgresql": "SELECT pg_database_size(current_database())",
        "mysql": "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()",
    }["postgresql" if name == "postgresql" else "mysql"]
    with engine.connect() as connection:
        return int(connection.scalar(text(query)) or 0)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A write transaction: it takes the lock at its start, so that it never fails half-way because it has read first.

    Raises ServiceUnavailable also if it was committed to an SQLite file that is no longer where it was.
    """
    with engine.execution_options(writes=True).connect() as connection:
        with connection.begin():
            yield connection
        if file := getattr(engine.pool, FILE, None):
            file.require_same(connection)


def require_room(engine: Engine) -> None:
    """Raise DiskFull if the disk of an SQLite file has no room for a transaction. Writes nothing."""
    if engine.dialect.name == "sqlite" and (free := disk.free_bytes(sqlite_path(engine.url))) < disk.LITTLE_BYTES:
        raise DiskFull(f"{capital(place(engine.url))} cannot be written: {free:,} bytes are free on its disk", disk.AGAIN)


def snapshots(engine: Engine) -> Engine:
    """The same engine with snapshot isolation per transaction; PostgreSQL's default is a snapshot per query."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="REPEATABLE READ")


def _address(url: str) -> URL:
    remedy = (
        "Set DATABASE_URL to sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or mysql://USER:PASSWORD@HOST/DATABASE"
    )
    try:
        address = make_url(url)
    except ArgumentError:
        raise SettingsError("DATABASE_URL is not a database URL (value hidden)", remedy) from None
    backend = address.get_backend_name()
    if backend not in _DRIVERS:
        raise SettingsError(f"DATABASE_URL names '{backend}', which is not supported", remedy)
    if address.database in (None, "", ":memory:"):
        raise SettingsError(f"DATABASE_URL ({backend}) names no database", remedy)
    return address if "+" in address.drivername else address.set(drivername=_DRIVERS[backend])


def _engine(url: str) -> Engine:
    address = _address(url)
    engine = _sqlite(address) if address.get_backend_name() == "sqlite" else _server(address)
    event.listen(engine, "handle_error", translate)
    return engine


def _sqlite(address: URL) -> Engine:
    _make_parent(address)
    adopt = lambda: connect(address.render_as_string(), migrate=True).dispose()  # noqa: E731
    file = SqliteFile(sqlite_path(address), BUSY_SECONDS, adopt, str(address.query.get("mode", "")))
    engine = create_engine(address, creator=file.open)
    setattr(engine.pool, FILE, file)
    file.listen(engine)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_parent(address: URL) -> None:
    try:
        sqlite_path(address).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"The folder of {place(address)} cannot be made ({error.strerror})"
        raise ServiceUnavailable(problem, "Set OPENMLOPS_HOME or DATABASE_URL to a writable location") from error


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


def _server(address: URL) -> Engine:
    if address.get_backend_name() == "postgresql":
        arguments = _postgresql_arguments()
    else:
        address = address.update_query_dict({"charset": "utf8mb4"})
        arguments = {"connect_timeout": CONNECT_SECONDS, "read_timeout": BUSY_SECONDS, "write_timeout": BUSY_SECONDS}
    try:
        return create_engine(address, pool_pre_ping=True, pool_recycle=1800, connect_args=arguments)
    except ModuleNotFoundError as error:
        driver = {"psycopg2": "psycopg2-binary"}.get(str(error.name), error.name)
        raise SettingsError(f"DATABASE_URL needs the driver {error.name}", f"Run: pip install {driver}") from error


def _postgresql_arguments() -> dict[str, Any]:
    """Timeouts: libpq would wait forever for a dead server, and PostgreSQL would keep the locks of a dead client."""
    limits = {"statement_timeout": BUSY_SECONDS, "idle_in_transaction_session_timeout": BUSY_SECONDS}
    return {
        "application_name": f"openmlops {os.getpid()}@{socket.gethostname()}"[:63],
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": SILENT_SECONDS // 3,
        "keepalives_interval": SILENT_SECONDS // 6,
        "keepalives_count": 4,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
        "options": " ".join(f"-c {name}={seconds * 1000}" for name, seconds in limits.items()),
    }


def revision_of(engine: Engine) -> str | None:
    """The revision that the database is at; None when it is empty."""
    with engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.scalar(select(_VERSION.c.version_num))


def _migrate(engine: Engine) -> None:
    from alembic import command, config, script

    settings = config.Config()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {revision.revision for revision in script.ScriptDirectory.from_config(settings).walk_revisions()}
    if (found := revision_of(engine)) not in known | {None}:
        raise _other_schema(engine.url, str(found))
    with writing(engine) as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, HEAD)


def _other_schema(address: URL, found: str) -> ServiceRefused:
    where = capital(place(address))
    if found < HEAD:
        older = f"{where} is at schema {found}; this version of OpenMLOps needs {HEAD}"
        return ServiceRefused(older, "Run: openmlops upgrade")
    newer = f"{where} is at schema {found}; this version of OpenMLOps supports up to {HEAD}"
    return ServiceRefused(newer, "Upgrade OpenMLOps, or set DATABASE_URL to another database")
