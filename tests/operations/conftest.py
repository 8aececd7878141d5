"""One small champion for all tests of this folder that need one."""

from pathlib import Path

import pytest
from small_loop import branch, champion, workspace

from openmlops.operations.workspace import Workspace


@pytest.fixture(scope="session")
def reigning(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with sample data and its first champion; do not write to it."""
    found = workspace(tmp_path_factory.mktemp("reigning"))
    champion(found)
    return found


@pytest.fixture
def loop(reigning: Workspace, tmp_path: Path) -> Workspace:
    """The same, with a database, a data set and monitoring files of its own."""
    return branch(reigning, tmp_path / "loop")
