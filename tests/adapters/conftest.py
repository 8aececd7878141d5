"""Fresh embedded MLflow stores for tests: the schema is made once (2 s) and copied."""

import shutil
from pathlib import Path

import pytest

from openmlops.adapters.mlflow_client import connect


@pytest.fixture(scope="session")
def pristine_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with MLflow's schema and nothing in it."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{database}")
    return database


@pytest.fixture
def mlflow_uri(pristine_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store of its own, while MLflow's global tracking URI names a server that is not there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    database = tmp_path / "mlflow.db"
    shutil.copy(pristine_mlflow, database)
    return f"sqlite:///{database}"
