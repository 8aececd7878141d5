"""The database: an engine that waits for locks instead of failing, with the schema migrated to the newest revision.

What is here: connecting, transactions, and migration. What is not: the meaning of the tables (`ledger`, `inference_log`).
SQLite by default, in WAL mode; PostgreSQL, MySQL and MariaDB by URL. Every failure of the database itself is a
ServiceUnavailable that names host and database, never the password.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError

from openmlops import disk
from openmlops.adapters.schema import HEAD, VERSION_TABLE
from openmlops.adapters.sqlite_file import SqliteFile
from openmlops.core.types import Value
from openmlops.errors import DiskFull, ServiceRefused, ServiceUnavailable, SettingsError

BUSY_SECONDS = 60
"""seconds that a statement waits for a lock before it fails"""
CONNECT_SECONDS = 10
SILENT_SECONDS = 30
"""seconds without any response from the database's machine before it counts as unavailable"""
MIGRATION_SECONDS = 300
"""seconds that a process waits for another one that is migrating the schema"""
MIGRATIONS = Path(__file__).with_name("migrations")
SCHEMA_LOCK = 7_305_519_441_007
"""key of PostgreSQL's advisory lock; an arbitrary number that no other program uses"""

FILE = "openmlops_file"
"""attribute of an engine's pool: its `SqliteFile`"""

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
_PRODUCTS = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}
PG_DEADLOCK, MYSQL_DEADLOCK = "40P01", 1213
"""codes of their errors"""
PG_DENIED, MYSQL_DENIED = "42501", (1044, 1142, 1143, 1370)
_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


def connect(url: str) -> Engine:
    """An engine on the database of an SQLAlchemy URL, with its schema migrated to `HEAD`.

    Safe to call from any number of processes at once; takes one query if there is nothing to migrate. Raises SettingsError for
    an unsupported URL, ServiceUnavailable for a database that does not respond or was migrated by a newer release.
    """
    engine = _engine(url)
    if not _is_new_file(engine.url) and _version(engine) == HEAD:
        return engine
    with _alone(engine):
        if _version(engine) != HEAD:
            _migrate(engine)
    return engine


def connect_with_retries(url: str) -> Engine:
    """The same engine without connecting to a server yet: its first connection migrates, and raises what `connect` raises."""
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
    return _path(_address(url))


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
        return DatabaseInfo(place=place(address), product=f"{product} {version}".strip(), revision=_version(engine))
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
    if engine.dialect.name == "sqlite" and (free := disk.free_bytes(_path(engine.url))) < disk.LITTLE_BYTES:
        where = place(engine.url)
        raise DiskFull(f"{where[0].upper()}{where[1:]} cannot be written: {free:,} bytes are free on its disk", disk.AGAIN)


def is_deadlock(error: ServiceUnavailable) -> bool:
    """Whether the database undid this transaction to end a deadlock: given again, it is likely to succeed."""
    cause = error.__cause__
    return getattr(cause, "pgcode", None) == PG_DEADLOCK or getattr(cause, "args", ())[:1] == (MYSQL_DEADLOCK,)


def snapshots(engine: Engine) -> Engine:
    """The same engine with snapshot isolation per transaction; PostgreSQL's default is a snapshot per query."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="REPEATABLE READ")


def place(address: URL) -> str:
    """The database's location for messages: host and database, or the file. Never the password."""
    if address.get_backend_name() == "sqlite":
        return f"the SQLite file {address.database}"
    port = f":{address.port}" if address.port else ""
    return f"the {address.get_backend_name()} database {address.database} on {address.host}{port}"


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
    event.listen(engine, "handle_error", _translate)
    return engine


def _sqlite(address: URL) -> Engine:
    _make_parent(address)
    adopt = lambda: connect(address.render_as_string()).dispose()  # noqa: E731
    file = SqliteFile(_path(address), BUSY_SECONDS, adopt, str(address.query.get("mode", "")))
    engine = create_engine(address, creator=file.open)
    setattr(engine.pool, FILE, file)
    file.listen(engine)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _path(address: URL) -> Path:
    """The file of an SQLite address, also of one that is a URI itself (`file:PATH?uri=true`)."""
    database = str(address.database)
    return Path(unquote(database.removeprefix("file:")) if "uri" in address.query else database)


def _make_parent(address: URL) -> None:
    try:
        _path(address).parent.mkdir(parents=True, exist_ok=True)
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
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": SILENT_SECONDS // 3,
        "keepalives_interval": SILENT_SECONDS // 6,
        "keepalives_count": 4,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
        "options": " ".join(f"-c {name}={seconds * 1000}" for name, seconds in limits.items()),
    }


def _translate(context: ExceptionContext) -> None:
    """Translate a failure of the database itself into ServiceUnavailable; errors of a statement are unchanged."""
    error = context.sqlalchemy_exception
    if context.engine is not None and _is_denied(context.original_exception):
        problem = f"{_capital(place(context.engine.url))} does not let this role do that ({_first_line(context)})"
        raise ServiceRefused(
            problem, "Give the command with the role that owns the database, or as an administrator"
        ) from context.original_exception
    is_theirs = isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
    if is_theirs and context.engine is not None and not context.is_pre_ping:
        raise _unavailable(context.engine.url, context.original_exception) from context.original_exception


def _is_denied(cause: BaseException) -> bool:
    """Whether a role lacks the right to do what was asked, on PostgreSQL, MySQL or MariaDB."""
    return getattr(cause, "pgcode", None) == PG_DENIED or getattr(cause, "args", ())[:1] in [(code,) for code in MYSQL_DENIED]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _first_line(context: ExceptionContext) -> str:
    return (str(context.original_exception).strip().splitlines() or ["no reason given"])[0]


def _unavailable(address: URL, cause: BaseException) -> ServiceUnavailable:
    where, lines = place(address), str(cause).strip().splitlines()
    is_file = address.get_backend_name() == "sqlite"
    if is_file and (full := disk.why_sqlite_is_full(str(cause), _path(address))):
        return DiskFull(f"{where[0].upper()}{where[1:]} cannot be used ({lines[0]}): {full}", disk.AGAIN)
    problem = f"{where[0].upper()}{where[1:]} cannot be used ({lines[0] if lines else type(cause).__name__})"
    if is_file and any(words in problem for words in ("readonly", "unable to open")):
        return ServiceUnavailable(problem, "Give yourself the permission to write it and its folder, or work in a copy")
    return ServiceUnavailable(problem, "Check that it is running and that DATABASE_URL is correct")


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the exclusive lock on migrations of this database."""
    locks = {"sqlite": _file_lock, "postgresql": _postgresql_lock, "mysql": _mysql_lock, "mariadb": _mysql_lock}
    with locks[engine.dialect.name](engine):
        yield


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = _path(engine.url)
    if not path.parent.is_dir():  # the lock would make it again
        raise _unavailable(engine.url, FileNotFoundError("its folder is gone"))
    lock = FileLock(f"{path}.lock", timeout=MIGRATION_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        problem = f"Another process has been changing the schema of {place(engine.url)} for {MIGRATION_SECONDS} s"
        raise ServiceUnavailable(problem, "Try again when it has finished") from error
    except OSError as error:
        raise _unavailable(engine.url, error) from error
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
        if not connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": BUSY_SECONDS - 1}):
            problem = f"Another process has been changing the schema of {place(engine.url)} for {BUSY_SECONDS} s"
            raise ServiceUnavailable(problem, "Try again when it has finished")
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})


def _version(engine: Engine) -> str | None:
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
    if (found := _version(engine)) not in known | {None}:
        problem = f"{place(engine.url)} is at schema {found}; this version of OpenMLOps supports up to {HEAD}"
        raise ServiceRefused(problem, "Upgrade OpenMLOps, or set DATABASE_URL to another database")
    with writing(engine) as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, HEAD)
