"""The servers of both reference stacks, started once for all tests here: `make test-servers`."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stacks import Servers

from postgres import MISSING, postgres, programs
from real_servers import make_database, mariadb, mlflow, object_store, zenml


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All of them, ended by process id when the last test is done."""
    assert programs(), MISSING
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        postgresql = stack.enter_context(postgres())
        mysql = stack.enter_context(mariadb(folder / "mariadb.log", ("mlflow", "zenml")))
        objects = stack.enter_context(object_store(folder / "objects"))
        places = {
            "runs-1": make_database(postgresql, "mlflow"),
            "runs-2": mysql.url("mlflow").replace("mysql", "mysql+pymysql", 1),
        }
        runs = [stack.enter_context(mlflow(folder / name, url, objects, objects.bucket(name))) for name, url in places.items()]
        pipelines = stack.enter_context(zenml(folder / "zenml", mysql.url("zenml")))
        yield Servers(postgresql, mysql, objects, *runs, pipelines)
