"""The servers of both reference stacks, started once a run for all tests here: `make test-servers`."""

import fcntl
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from stacks import Servers

from once import shared
from postgres import MISSING, postgres, programs
from real_servers import make_database, mariadb, mlflow, object_store, zenml


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All of them, started by the process of the run that needs them first, which ends them when no other uses them."""
    assert programs(), MISSING
    found = shared(tmp_path_factory) / "servers"
    with ExitStack() as stack:
        users = stack.enter_context(found.with_suffix(".users").open("w"))
        with FileLock(f"{found}.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if found.exists():
                given = pickle.loads(found.read_bytes())
            else:
                given = _started(stack, tmp_path_factory.mktemp("servers"))
                found.write_bytes(pickle.dumps(replace(given, postgresql=replace(given.postgresql, process=None))))
                stack.callback(fcntl.flock, users, fcntl.LOCK_EX)
        yield given


def _started(stack: ExitStack, folder: Path) -> Servers:
    """Each with a folder below `folder`, until the stack is closed."""
    postgresql = stack.enter_context(postgres())
    mysql = stack.enter_context(mariadb(folder / "mariadb.log", ("mlflow", "zenml")))
    objects = stack.enter_context(object_store(folder / "objects"))
    places = {
        "runs-1": make_database(postgresql, "mlflow"),
        "runs-2": mysql.url("mlflow").replace("mysql", "mysql+pymysql", 1),
    }
    runs = [stack.enter_context(mlflow(folder / name, url, objects, objects.bucket(name))) for name, url in places.items()]
    pipelines = stack.enter_context(zenml(folder / "zenml", mysql.url("zenml")))
    return Servers(postgresql, mysql, objects, *runs, pipelines)
