"""A home folder that was moved or copied: MLflow, ZenML and DVC store absolute paths, which are rewritten to where it is now.

A file in the home, `location`, holds the path at which its stores were last known to be right; nothing else is read as long as
it is true. A repair begins with the places to be replaced in this file, then rewrites each store at once (a transaction, or a
file replaced), and ends with the new path, so that the next command finishes one that was killed. No server is asked, and
nothing is written in the place that the home left or was copied from. What is not here: paths in records of what happened
(parameters, tags, artifacts of pipeline steps).
"""

import base64
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openmlops.errors import SettingsError
from openmlops.files import replacing, write_bytes

LOCATION = "location"
BUSY_SECONDS = 60

_MLFLOW = "mlflow.db"
_ARTIFACTS = "mlflow-artifacts"
_ZENML_CONFIG = Path("zenml") / "config.yaml"
_LOCAL_STORES = Path("zenml") / "local_stores"
_ZENML = _LOCAL_STORES / "default_zen_store" / "zenml.db"
_COLUMNS = {"artifact_location", "artifact_uri", "source", "storage_location", "uri"}
"""names of the columns, in any table of MLflow or ZenML, that locate files"""
_TRACES = ("trace_tags", "value")


def repair(home: Path, mlflow: Path | None, repositories: Iterable[Path]) -> tuple[Path, ...]:
    """Make the stores of `home` (absolute) point to it if it was moved; returns the places that they pointed to instead.

    `mlflow` is the database of an embedded MLflow outside the home that moves with the project, `repositories` are folders
    whose DVC repository may use the home. A store that is damaged is left to who needs it, and moved once it is restored. Safe
    to call from any number of processes. Raises SettingsError if the home was moved and cannot be written, or if its databases
    are hard links to those of the home that it was copied from.
    """
    known = _known(home)
    if known == (home,) or not os.path.isdir(home):  # Path.is_dir raises if it may not look
        return ()
    stores = [path for path in (home / _MLFLOW, mlflow, home / _ZENML, home / _ZENML_CONFIG) if path and path.is_file()]
    try:
        whole = tuple(filter(_is_whole, stores))
        if _places(home, whole):
            _require_own((*stores, *home.glob("*.db")))
            return _repair_alone(home, whole, tuple(repositories), is_all=len(whole) == len(stores))
        if len(whole) < len(stores):
            return ()
    except (OSError, sqlite3.Error, ValueError) as error:
        if not known:  # nothing says that it moved: whoever needs the store reports that it cannot be read
            return ()
        problem = f"{home} was moved or copied, and the paths in its stores cannot be updated ({error})"
        raise SettingsError(problem, "Make OPENMLOPS_HOME and its files readable and writable for this user") from error
    with suppress(OSError):  # a home that is not writable is reported by the first write to it
        _note(home, (home,))
    return ()


def _is_whole(store: Path) -> bool:
    """Whether a database or YAML file can be read as one. Raises OSError and sqlite3.Error where it cannot be looked at."""
    try:
        if store.suffix == ".yaml":
            _yaml(store)
            return True
        with closing(sqlite3.connect(store, timeout=BUSY_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except ValueError:
        return False
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # not its content, but its lock or mode
            raise
        return False
    return True


def _require_own(databases: Iterable[Path]) -> None:
    """Raises SettingsError if a database has a second name, as `cp -al` gives it.

    Files of data sets may have one: nothing writes to them, and what was edited all the same is noticed in both projects.
    """
    for path in databases:
        if path.is_file() and path.stat().st_nlink > 1:
            problem = f"{path} is a hard link: the project that it was copied from writes to the same file"
            raise SettingsError(
                problem, "Copy the project with `cp -a`, or make this file a copy: `cp -a FILE NEW && mv NEW FILE`"
            )


def _repair_alone(home: Path, stores: tuple[Path, ...], repositories: tuple[Path, ...], is_all: bool) -> tuple[Path, ...]:
    from filelock import FileLock

    with FileLock(home / f"{LOCATION}.lock", timeout=BUSY_SECONDS):
        if _known(home) == (home,):  # repaired by another process meanwhile
            return ()
        places = _places(home, stores)
        _note(home, places)
        changed = tuple(old for old in places if _repair_from(old, home, stores, repositories))
        if is_all:
            _note(home, (home,))
    return changed


def _repair_from(old: Path, home: Path, stores: tuple[Path, ...], repositories: tuple[Path, ...]) -> bool:
    """Replace `old` in every store; whether anything was replaced."""
    from openmlops.adapters.dvc_config import relocate

    moved = _Move({old: home, old.parent / "mlruns": home.parent / "mlruns"})
    done = [(_rewrite_yaml if path.suffix == ".yaml" else _rewrite_database)(path, moved) for path in stores]
    done += [relocate(folder, old, home) for folder in dict.fromkeys((home, *repositories))]
    return any(done)


class _Move:
    """The paths that changed, in the forms in which stores hold them."""

    def __init__(self, folders: Mapping[Path, Path]) -> None:
        self.forms: dict[str, str] = {}
        for old, new in folders.items():
            if old != new:
                self.forms |= {f"{scheme}{old}": f"{scheme}{new}" for scheme in ("", "file://", "sqlite:///")}
                self.forms[old.as_uri()] = new.as_uri()

    def applied(self, value: Any) -> Any:
        """`value`, nested as JSON is, with every text that is one of the folders or a path below one moved."""
        if isinstance(value, dict):
            return {key: self.applied(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.applied(each) for each in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for old, new in self.forms.items():
            if _is_below(text, old) and not _is_below(text, new):
                return new + text[len(old) :]
        return text


def _is_below(text: str, folder: str) -> bool:
    return text == folder or text.startswith(f"{folder}/")


def _known(home: Path) -> tuple[Path, ...]:
    """Where the stores were right when a process last looked; the places that remain in them if a repair was killed."""
    try:
        lines = os.fsdecode((home / LOCATION).read_bytes()).split("\n")
    except OSError:
        return ()
    return tuple(Path(line) for line in lines if line.startswith("/"))


def _note(home: Path, places: Iterable[Path]) -> None:
    write_bytes(home / LOCATION, os.fsencode("".join(f"{place}\n" for place in places)))


def _places(home: Path, stores: tuple[Path, ...]) -> tuple[Path, ...]:
    """The places other than `home` to which the stores may point. The stores are asked too: `location` may be older than they
    are, after a repair that was killed and a second move, and homes of earlier releases have none.
    """
    found = list(_known(home))
    for path in stores:
        if path.suffix != ".yaml":
            found += [place for text in _locations(path) if (place := _before(text, f"/{_ARTIFACTS}/"))]
    store = _yaml(home / _ZENML_CONFIG).get("store") if home / _ZENML_CONFIG in stores else None
    if isinstance(store, dict) and (place := _before(str(store.get("database", "")), f"/{_LOCAL_STORES}/")):
        found.append(place)
    return tuple(place for place in dict.fromkeys(found) if place != home)


def _locations(database: Path) -> list[str]:
    with closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection:
        if "artifact_location" not in _columns(connection, "experiments"):
            return []
        return [str(text) for (text,) in connection.execute("SELECT artifact_location FROM experiments")]


def _before(location: str, part: str) -> Path | None:
    path = unquote(location.removeprefix("file://")) if location.startswith("file://") else location
    place, found, _ = path.rpartition(part)
    return Path(place) if found and place.startswith("/") else None


def _rewrite_database(path: Path, moved: _Move) -> bool:
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        before = connection.total_changes
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for column in _columns(connection, table):
                if column in _COLUMNS or (table, column) == _TRACES:
                    _rewrite_column(connection, table, column, moved)
        if "configuration" in _columns(connection, "stack_component"):
            _rewrite_components(connection, moved)
        connection.execute("COMMIT")
        return connection.total_changes > before


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(name) for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _rewrite_column(connection: sqlite3.Connection, table: str, column: str, moved: _Move) -> None:
    for old, new in moved.forms.items():
        below = f"({column} = ? OR substr({column}, 1, length(?) + 1) = ? || '/')"
        change = f"UPDATE {table} SET {column} = ? || substr({column}, length(?) + 1) WHERE {below} AND NOT {below}"
        connection.execute(change, (new, old, old, old, old, new, new, new))


def _rewrite_components(connection: sqlite3.Connection, moved: _Move) -> None:
    """The configurations of ZenML's stack components, JSON in Base64."""
    for row, stored in connection.execute("SELECT rowid, configuration FROM stack_component").fetchall():
        configuration = json.loads(base64.b64decode(stored))
        if (new := moved.applied(configuration)) != configuration:
            text = base64.b64encode(json.dumps(new).encode())
            connection.execute("UPDATE stack_component SET configuration = ? WHERE rowid = ?", (text, row))


def _rewrite_yaml(path: Path, moved: _Move) -> bool:
    """ZenML's configuration, which keeps its mode: it may hold credentials."""
    import yaml

    stored = _yaml(path)
    if (new := moved.applied(stored)) == stored:
        return False
    with replacing(path) as beside:
        beside.chmod(path.stat().st_mode & 0o777)
        beside.write_text(yaml.safe_dump(new, allow_unicode=True), encoding="utf-8")
    return True


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML") from error
    return stored if isinstance(stored, dict) else {}
