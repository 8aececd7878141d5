"""Fresh embedded MLflow stores for tests: empty tables, made once a machine."""

from pathlib import Path

import pytest

from mlflow_tables import with_tables


@pytest.fixture
def mlflow_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store of its own, while MLflow's global tracking URI names a server that is not there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return f"sqlite:///{with_tables(tmp_path / 'mlflow.db')}"
