"""Real servers behind a proxy that a test can take away: MLflow's, and a workspace whose runs are on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from openmlops.operations.data import datasets
from openmlops.operations.workspace import Workspace
from ports import free_port
from processes import BIN, is_healthy, process
from small_loop import workspace as small_workspace
from tcp_proxy import TcpProxy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real MLflow server that keeps the artifacts itself."""
    folder, port = tmp_path_factory.mktemp("mlflow-server"), free_port()
    options = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with process(command, folder / "log", is_healthy(f"http://127.0.0.1:{port}/health"), environment):
        yield port


@pytest.fixture
def mlflow(mlflow_port: int) -> Iterator[TcpProxy]:
    """What lies between the workspace and MLflow."""
    with TcpProxy(mlflow_port) as proxy:
        yield proxy


@pytest.fixture
def workspace(mlflow: TcpProxy, tmp_path: Path) -> Workspace:
    """Sample data; runs on the server, through the proxy."""
    found = small_workspace(tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{mlflow.port}")
    datasets.make_sample(found)
    return found
