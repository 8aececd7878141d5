"""Data sets that the tests of the use case `person` share: the drawn sample, a small part of it, and real photographs."""

import getpass
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from part_of_sample import part_of

UNPACK = Path(__file__).resolve().parents[4] / "shared" / "data" / "unpack.py"
SMALL = {"train": 12, "val": 6, "test": 6}


@pytest.fixture(scope="session")
def real_coco128() -> Path:
    """The folder of real COCO128, unpacked once a machine and user; do not write into it."""
    if not UNPACK.is_file():
        pytest.skip("real COCO128 is not here: it needs ../shared/data/unpack.py beside this repository")
    cache = Path(tempfile.gettempdir()) / f"openmlops-real-{getpass.getuser()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    folder = cache / "coco128"
    with FileLock(cache / "lock-coco128"):
        if not folder.is_dir():
            part = cache / "coco128.part"
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run([sys.executable, str(UNPACK), str(part), "coco128"], check=True, stdout=subprocess.DEVNULL)
            (part / "coco128").rename(folder)
    return folder


@pytest.fixture(scope="session")
def person_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole sample; do not write into it."""
    return importlib.import_module("openmlops.usecases.person.sample").sample(tmp_path_factory.mktemp("person") / "sample")


@pytest.fixture
def small_people(person_sample: Path, tmp_path: Path) -> Path:
    """The first images of each split of the sample, as a data set of one's own."""
    return part_of(person_sample, tmp_path / "people", SMALL)
