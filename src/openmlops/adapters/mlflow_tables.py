"""Registered models of an embedded MLflow, read from its SQLite file as `registry` returns them, without importing MLflow.

The import takes longer than everything else in a read-only command. What is not here: writes, files and servers; and tables of
another revision than the one that these queries were written for, which only MLflow itself can read.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from openmlops.core.types import ModelRef
from openmlops.errors import ModelNotFound, RegistryError, ServiceUnavailable

EMBEDDED = "sqlite:///"
REVISION = "dc11669786a5"
"""of MLflow's tables, in its `alembic_version`"""
BUSY_SECONDS = 60
SHA256_TAG = "openmlops.sha256"
DATASET_TAG = "openmlops.dataset"
STATE_TAG = "openmlops.state"

_PROMPT = "mlflow.prompt.is_prompt"
"""tag of what MLflow keeps among the models and does not list there"""
_MODELS = f"""
    SELECT name FROM registered_models WHERE workspace = 'default' AND name NOT IN
    (SELECT name FROM registered_model_tags WHERE workspace = 'default' AND key = '{_PROMPT}' AND lower(value) = 'true')
"""
_VERSIONS = """
    SELECT version, run_id FROM model_versions
    WHERE workspace = 'default' AND name = ? AND current_stage IS NOT 'Deleted_Internal' ORDER BY version
"""
_TAGS = "SELECT version, key, value FROM model_version_tags WHERE workspace = 'default' AND name = ?"
_ALIAS = "SELECT version FROM registered_model_aliases WHERE workspace = 'default' AND name = ? AND alias = ?"
_MODEL_TAG = "SELECT value FROM registered_model_tags WHERE workspace = 'default' AND name = ? AND key = ?"
_RUN = "SELECT 1 FROM runs WHERE run_uuid = ?"
_ACTIVE_RUN = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
_METRICS = "SELECT key, CASE WHEN is_nan THEN 'nan' ELSE value END FROM latest_metrics WHERE run_uuid = ?"
_EXPERIMENT = "SELECT 1 FROM experiments WHERE workspace = 'default' AND name = ? AND lifecycle_stage = 'active'"


class Tables:
    """MLflow's tables in a file. Each question sees them as they are then."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def models(self) -> tuple[str, ...]:
        """Names of the registered models, in alphabetical order."""
        return tuple(sorted(name for (name,) in self._rows(_MODELS)))

    def versions(self, name: str) -> tuple[ModelRef, ...]:
        """All versions of a model, oldest first; none if there is no such model."""
        tags: dict[int, dict[str, str]] = {}
        for version, key, value in self._rows(_TAGS, name):
            tags.setdefault(version, {})[key] = value
        return tuple(_ref(name, version, run, tags.get(version, {})) for version, run in self._rows(_VERSIONS, name))

    def version(self, name: str, version: int) -> ModelRef:
        """One version by number. Raises ModelNotFound."""
        if found := [ref for ref in self.versions(name) if ref.version == version]:
            return found[0]
        raise no_version(name, version)

    def alias(self, name: str, alias: str) -> int | None:
        """The version that carries an alias, or None if none does."""
        return next((version for (version,) in self._rows(_ALIAS, name, alias)), None)

    def tag(self, name: str, key: str) -> str:
        """A tag of a model, empty if there is none."""
        return next((value or "" for (value,) in self._rows(_MODEL_TAG, name, key)), "")

    def version_tags(self, name: str, key: str) -> dict[int, str]:
        """A tag of each version of a model, empty where there is none."""
        tags = {version: value for version, found, value in self._rows(_TAGS, name) if found == key}
        return {version: tags.get(version, "") for version, _ in self._rows(_VERSIONS, name)}

    def run_metrics(self, run_id: str) -> dict[str, float]:
        """Last value of each metric of a run. Raises RegistryError if there is no such run."""
        if not self._rows(_RUN, run_id):
            raise RegistryError(f"There is no MLflow run '{run_id}'", "Train first")
        return {name: float(value) for name, value in self._rows(_METRICS, run_id)}

    def has_run(self, run_id: str) -> bool:
        """Is there a run with this id that was not deleted?"""
        return bool(self._rows(_ACTIVE_RUN, run_id))

    def has_experiment(self, name: str) -> bool:
        """Is there an experiment of this name that was not deleted?"""
        return bool(self._rows(_EXPERIMENT, name))

    def revision(self) -> str:
        """Of the tables."""
        ((found,),) = self._rows("SELECT version_num FROM alembic_version")
        return str(found)

    def _rows(self, query: str, *values: str) -> list[Any]:
        try:
            place = f"file:{quote(str(self._path))}?mode=ro"
            with closing(sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            problem = f"MLflow at {EMBEDDED}{self._path} failed to handle a request ({error})"
            raise ServiceUnavailable(problem, "Check MLFLOW_TRACKING_URI") from error


def tables(uri: str) -> Tables | None:
    """The tables of an embedded MLflow, if there are any and they are of the revision that is known here."""
    if not uri.startswith(EMBEDDED) or re.search(r"[?#]", uri):
        return None
    found = Tables(Path(uri.removeprefix(EMBEDDED)).absolute())
    try:
        return found if found.revision() == REVISION else None
    except (ServiceUnavailable, ValueError):  # no file yet, or no tables in it: MLflow makes them, or says what is wrong
        return None


def no_version(name: str, version: int) -> ModelNotFound:
    """What is raised for a version that is not there."""
    return ModelNotFound(f"The model '{name}' has no version {version}", "List the versions with `openmlops models`")


def _ref(name: str, version: int, run_id: str | None, tags: dict[str, str]) -> ModelRef:
    return ModelRef(
        name=name,
        version=version,
        uri=f"models:/{name}/{version}",
        run_id=run_id or "",
        dataset=tags.get(DATASET_TAG, ""),
        sha256=tags.get(SHA256_TAG, ""),
    )
