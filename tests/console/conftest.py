"""The console's tests look at one small world of toy models, made once a run; each file has a copy of its own."""

import shutil
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from once import once
from openmlops.adapters.moved_home import repair
from openmlops.console import registry_cache
from openmlops.console.app import create_app
from openmlops.operations.workspace import Workspace


@pytest.fixture(autouse=True, scope="session")
def patient_pages() -> Iterator[None]:
    """Pages wait for MLflow, whose import alone takes longer than the two seconds on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_cache, "WAIT_SECONDS", 300.0)
        yield


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Five versions, four of them judged, traffic, labels and a decision. Tests of one file may go on from what others did."""
    from console_world import make, workspace

    home = tmp_path_factory.mktemp("toys") / "home"
    shutil.copytree(once(tmp_path_factory, "toys", make), home)
    found = workspace(home)
    repair(found.home, None, ())
    return found


@pytest.fixture
def client(toys: Workspace) -> Iterator[TestClient]:
    """A browser without a window on this machine."""
    with TestClient(create_app(toys), base_url="http://127.0.0.1:8080") as opened:
        yield opened
