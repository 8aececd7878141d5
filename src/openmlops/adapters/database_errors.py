"""What a failure of the database is to its users: where it is, why, and what to do. Never the password."""

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import URL
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError

from openmlops import disk
from openmlops.errors import DiskFull, ServiceRefused, ServiceUnavailable

PG_DEADLOCK, MYSQL_DEADLOCK = "40P01", 1213
"""codes of their errors"""
PG_DENIED, MYSQL_DENIED = "42501", (1044, 1142, 1143, 1370)


def place(address: URL) -> str:
    """The database's location for messages: host and database, or the file. Never the password."""
    if address.get_backend_name() == "sqlite":
        return f"the SQLite file {address.database}"
    port = f":{address.port}" if address.port else ""
    return f"the {address.get_backend_name()} database {address.database} on {address.host}{port}"


def sqlite_path(address: URL) -> Path:
    """The file of an SQLite address, also of one that is a URI itself (`file:PATH?uri=true`)."""
    database = str(address.database)
    return Path(unquote(database.removeprefix("file:")) if "uri" in address.query else database)


def is_deadlock(error: ServiceUnavailable) -> bool:
    """Whether the database undid this transaction to end a deadlock: given again, it is likely to succeed."""
    cause = error.__cause__
    return getattr(cause, "pgcode", None) == PG_DEADLOCK or getattr(cause, "args", ())[:1] == (MYSQL_DEADLOCK,)


def translate(context: ExceptionContext) -> None:
    """Translate a failure of the database itself into ServiceUnavailable; errors of a statement are unchanged."""
    error = context.sqlalchemy_exception
    if context.engine is not None and _is_denied(context.original_exception):
        problem = f"{capital(place(context.engine.url))} does not let this role do that ({_first_line(context)})"
        raise ServiceRefused(
            problem, "Give the command with the role that owns the database, or as an administrator"
        ) from context.original_exception
    is_theirs = isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
    if is_theirs and context.engine is not None and not context.is_pre_ping:
        raise unavailable(context.engine.url, context.original_exception) from context.original_exception


def _is_denied(cause: BaseException) -> bool:
    """Whether a role lacks the right to do what was asked, on PostgreSQL, MySQL or MariaDB."""
    return getattr(cause, "pgcode", None) == PG_DENIED or getattr(cause, "args", ())[:1] in [(code,) for code in MYSQL_DENIED]


def capital(text: str) -> str:
    """The text with a capital at its beginning, and the rest as it is."""
    return text[0].upper() + text[1:]


def _first_line(context: ExceptionContext) -> str:
    return (str(context.original_exception).strip().splitlines() or ["no reason given"])[0]


def unavailable(address: URL, cause: BaseException) -> ServiceUnavailable:
    """The error that names the database, why it cannot be used, and what to do."""
    where, lines = capital(place(address)), str(cause).strip().splitlines()
    is_file = address.get_backend_name() == "sqlite"
    if is_file and (full := disk.why_sqlite_is_full(str(cause), sqlite_path(address))):
        return DiskFull(f"{where} cannot be used ({lines[0]}): {full}", disk.AGAIN)
    problem = f"{where} cannot be used ({lines[0] if lines else type(cause).__name__})"
    if is_file and any(words in problem for words in ("readonly", "unable to open")):
        return ServiceUnavailable(problem, "Give yourself the permission to write it and its folder, or work in a copy")
    return ServiceUnavailable(problem, "Check that it is running and that DATABASE_URL is correct")
