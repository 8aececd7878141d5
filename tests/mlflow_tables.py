"""MLflow's empty tables, made once a machine, user and version of MLflow, and put where a test's home begins.

MLflow makes a database by going through all its migrations, 4 cpu-s each time. What a user's first command does is claimed
where a folder is really empty: the tutorial, the loop as a user runs it.
"""

import getpass
import os
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

CACHE = Path(tempfile.gettempdir()) / f"openmlops-tests-{getpass.getuser()}"


def with_tables(database: Path) -> Path:
    """Put the tables where MLflow will look for its database, unless there is one."""
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True)
        _copy(_made(), database)
    return database


def _made() -> Path:
    CACHE.mkdir(mode=0o700, exist_ok=True)
    made = CACHE / f"mlflow-{version('mlflow')}.db"
    with FileLock(f"{made}.lock"):
        if not made.is_file():
            _make(made)
    return made


def _make(made: Path) -> None:
    from openmlops.adapters.mlflow_client import connect

    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        first, part = Path(folder) / "mlflow.db", Path(folder) / "empty.db"
        connect(f"sqlite:///{first}")
        _copy(first, part)
        with sqlite3.connect(part) as connection:
            connection.execute("DELETE FROM experiments")  # MLflow's default one names the folder that it was made in
        connection.close()
        os.replace(part, made)


def _copy(old: Path, new: Path) -> None:
    with sqlite3.connect(old) as reading, sqlite3.connect(new) as writing:
        reading.backup(writing)
    reading.close()
    writing.close()
