"""Names for shell completion, read with minimal latency.

What is here: the versions and decisions in the database. Nothing is verified, created or migrated, and SQLite is read without
SQLAlchemy, whose import alone takes longer than the query. What is not: verification of the names (`ledger`, `decisions`).
"""

import re
import socket
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

ANSWER_SECONDS = 0.3
"""seconds that a database server may take to respond"""
MOST = 200
PLAIN = re.compile(r"[\w.-]+", re.ASCII)
"""names that are safe to pass to a shell; others are left out"""

_VERSIONS = f"SELECT model, version FROM ledger GROUP BY model, version ORDER BY model, version DESC LIMIT {MOST}"
_DECISIONS = f"SELECT id FROM decision ORDER BY sequence DESC LIMIT {MOST}"


def versions(url: str) -> list[tuple[str, int]]:
    """(model, version) of each version that was evaluated by the gate, newest first per model."""
    return [(name, int(version)) for name, version in _rows(url, _VERSIONS) if PLAIN.fullmatch(name)]


def decisions(url: str) -> list[str]:
    """Decision ids, latest first."""
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

    from openmlops.adapters.database import connect_without_migrating

    place = urlsplit(url)
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), ANSWER_SECONDS).close()
    engine = connect_without_migrating(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()
