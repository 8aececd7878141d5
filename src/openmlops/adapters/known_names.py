"""The names that a shell may complete, read as fast as they can be: a key was pressed and somebody waits.

What is here: which versions and decisions the database knows. Nothing is checked, made or migrated, and SQLite is read without
SQLAlchemy, whose import alone takes longer than all the rest. What is not: whether a name is true (`ledger`, `decisions`).
"""

import re
import socket
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

ANSWER_SECONDS = 0.3
"""how long the machine of a database may take to answer at all"""
MOST = 200
PLAIN = re.compile(r"[\w.-]+", re.ASCII)
"""what is handed to a shell; anything else in the database is left out"""

_VERSIONS = f"SELECT model, version FROM ledger GROUP BY model, version ORDER BY model, version DESC LIMIT {MOST}"
_DECISIONS = f"SELECT id FROM decision ORDER BY sequence DESC LIMIT {MOST}"


def versions(url: str) -> list[tuple[str, int]]:
    """Model and version of each version that came to the gate, the newest of a model first."""
    return [(name, int(version)) for name, version in _rows(url, _VERSIONS) if PLAIN.fullmatch(name)]


def decisions(url: str) -> list[str]:
    """The ids of decisions, the latest first."""
    return [found for (found,) in _rows(url, _DECISIONS) if PLAIN.fullmatch(found)]


def _rows(url: str, query: str) -> list[Any]:
    if url.startswith("sqlite:///"):
        return _from_file(Path(url.removeprefix("sqlite:///")), query)
    return _from_server(url, query)


def _from_file(path: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=ANSWER_SECONDS)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _from_server(url: str, query: str) -> list[Any]:
    from sqlalchemy import text

    from openmlops.adapters.database import as_it_is

    place = urlsplit(url)
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), ANSWER_SECONDS).close()
    engine = as_it_is(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()
