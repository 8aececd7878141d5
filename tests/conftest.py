"""Fixtures that several test folders share: a real S3 server, the real data where it is present, and a small champion."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from pydantic import SecretStr

from once import once
from openmlops.settings import quiet_libraries
from real_servers import object_store

if TYPE_CHECKING:
    from labelling_world import World
    from openmlops.operations.workspace import Workspace

quiet_libraries()
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `make` says: read by torch's threads when it is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read by numpy when it is imported, later: its threads spin for each other
assert "numpy" not in sys.modules
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as below a shell's `&`: commands that tests interrupt would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_SECONDS = 3600
"""after which a slow test counts as hanging: it may share its cores with much else"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


UNPACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "unpack.py"


@pytest.fixture(scope="session")
def real_cifar10() -> Path:
    """The folder of real CIFAR-10, unpacked once a machine and user; do not write into it."""
    return _unpacked("cifar10", "cifar-10-batches-py")


@pytest.fixture(scope="session")
def real_coco128() -> Path:
    """The folder of real COCO128, unpacked once a machine and user; do not write into it."""
    return _unpacked("coco128", "coco128")


def _unpacked(name: str, folder: str) -> Path:
    if not UNPACK.is_file():
        pytest.skip(f"real {name} is not here: it needs ../shared/data/unpack.py beside this repository")
    cache = Path(tempfile.gettempdir()) / f"openmlops-real-{getpass.getuser()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    with FileLock(cache / f"lock-{name}"):
        if not (cache / folder).is_dir():
            part = cache / f"{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run([sys.executable, str(UNPACK), str(part), name], check=True, stdout=subprocess.DEVNULL)
            (part / folder).rename(cache / folder)
    return cache / folder


@dataclass(frozen=True)
class S3Server:
    """A running S3 server: its endpoint, its one key pair, and the folder whose subfolders are its buckets."""

    endpoint: str
    access_key: SecretStr
    secret_key: SecretStr
    folder: Path


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server (rclone) on a free loopback port."""
    with object_store(tmp_path_factory.mktemp("s3")) as found:
        yield S3Server(found.url, SecretStr(found.key), SecretStr(found.secret), found.folder)


@pytest.fixture(scope="session")
def reigning(tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    """A workspace with sample data and its first champion, everything real; do not write to it.

    Trained once a run; each worker has databases and files of its own, repaired here, not by the first command of a test.
    """
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    from openmlops.adapters.moved_home import repair
    from small_loop import champion, workspace

    home = tmp_path_factory.mktemp("reigning")
    shutil.copytree(
        once(tmp_path_factory, "reigning", lambda made: champion(workspace(made))), home, symlinks=True, dirs_exist_ok=True
    )
    found = workspace(home)
    repair(found.home, None, (home / "raw",))
    _artifact_repos_cache.clear()  # MLflow would go on writing the files of the run to where it was made
    return found


@pytest.fixture
def loop(reigning: "Workspace", tmp_path: Path) -> "Workspace":
    """The same, with a database, a data set and monitoring files of its own."""
    from small_loop import branch

    return branch(reigning, tmp_path / "loop")


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> "dict[str, World]":
    """A classifier's images and a detector's that wait for labels; made once, copied for each test."""
    from labelling_world import classified, detected

    home = tmp_path_factory.mktemp("worlds")
    return {"pets": classified(home / "pets"), "people": detected(home / "people")}


@pytest.fixture
def pets(worlds: "dict[str, World]", tmp_path: Path) -> "World":
    return worlds["pets"].copy(tmp_path / "pets")


@pytest.fixture
def people(worlds: "dict[str, World]", tmp_path: Path) -> "World":
    return worlds["people"].copy(tmp_path / "people")
