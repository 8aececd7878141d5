"""The embedded ZenML store, looked at without the slow import of ZenML: whether it can be used, and what was deleted in it.

What is not here: a ZenML server (zenml_server.py), and everything that changes the store (`pipelines`).
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from openmlops.errors import ServiceRefused

BUSY_SECONDS = 60
STACK_GONE = "its active stack was deleted; pipelines run on the default stack"
AGAIN = "Run `openmlops stack register`, which makes it again"

FOLDER = "zenml"
"""of its configuration, in OPENMLOPS_HOME"""
_CONFIG = "config.yaml"


def what_is_gone(folder: Path | None) -> str:
    """What was deleted of the store whose configuration is in `folder`, in words; empty if nothing, or if there is none yet.

    Raises ServiceRefused if it cannot be read.
    """
    content = _configuration(folder / _CONFIG) if folder else {}
    store = content.get("store")
    database = Path(str(store.get("database", ""))) if isinstance(store, dict) else Path()
    if not database.is_absolute() or not os.path.lexists(database):
        return ""  # made by the next pipeline
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as connection:
            made = connection.execute("SELECT name FROM sqlite_master WHERE name = 'stack'").fetchone()
            stacks = {str(UUID(row)) for (row,) in connection.execute("SELECT id FROM stack")} if made else set()
    except (sqlite3.Error, ValueError) as error:
        raise _unreadable(database, error) from error
    active = str(content.get("active_stack_id", ""))
    return STACK_GONE if active and stacks and active not in stacks else ""


def _configuration(path: Path) -> dict[str, Any]:
    try:
        if not path.exists():
            return {}
    except OSError as error:
        raise _unreadable(path, error) from error
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(path, error) from error
    return content if isinstance(content, dict) else {}


def _unreadable(path: Path, error: Exception) -> ServiceRefused:
    problem = f"ZenML's store cannot be used: {path} cannot be read ({' '.join(str(error).split())[:120]})"
    if isinstance(error, PermissionError):
        return ServiceRefused(problem, "Give yourself the permission to read and write it, or work in a copy")
    return ServiceRefused(problem, f"Restore it, or move {path.name} away: the next pipeline makes a new one. Models stay")
