"""The wheel in an environment that holds nothing else, with the versions of requirements.lock: `make test-wheel`.

What is not here: what the commands do. The other tests claim that of the sources; here, that the wheel brings all they need.
"""

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from user_folder import Folder

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).parent / "uv"
ENVIRONMENT = ROOT / ".venv-wheel"
"""beside .venv, so that uv links files of its cache where it would have to copy gigabytes elsewhere"""

pytestmark = [pytest.mark.wheel, pytest.mark.slow]


def uv(*words: str | Path) -> None:
    """One command of uv: without a network where its cache holds everything, as it does after `make setup`."""
    if subprocess.run([UV, *words, "--quiet", "--offline"], cwd=ROOT, capture_output=True).returncode:
        subprocess.run([UV, *words, "--quiet"], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `python -m build` does: an archive of the sources, and the wheel from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The `bin` of an environment in which nothing is but the wheel and what it asks for."""
    python = ENVIRONMENT / "bin" / "python"
    uv("venv", "--clear", "--python", sys.executable, ENVIRONMENT)
    uv("pip", "install", "--python", python, "--constraints", "requirements.lock", wheel)
    return python.parent


@pytest.fixture(scope="module")
def folder(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    given = Folder(tmp_path_factory.mktemp("user") / "folder", installed / "openmlops")
    given.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # the next command finds compiled what this one compiles
    return given


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "openmlops"],
        cwd=ROOT / "src",
        capture_output=True,
        text=True,
        check=True,
    )
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == set(listed.stdout.split())
    for kind in ("console/templates/*.html", "console/static/vendor/*.js", "adapters/migrations/versions/*.py"):
        assert any(Path(name).match(kind) for name in packed), kind


def test_the_package_that_runs_is_the_wheel_without_extras_and_tools(installed: Path, tmp_path: Path) -> None:
    question = (
        "import importlib.util as u, openmlops; print(openmlops.__file__, [u.find_spec(n) for n in ('ultralytics', 'pytest')])"
    )
    told = subprocess.run([installed / "python", "-c", question], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.startswith(str(ENVIRONMENT))
    assert told.stdout.endswith("[None, None]\n")


def test_the_command_says_what_it_can_do(folder: Folder) -> None:
    shown = folder.run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "openmlops [OPTIONS] COMMAND" in shown.stdout


def test_a_sample_becomes_a_version_and_a_model_that_is_judged(folder: Folder) -> None:
    assert "fingerprint" in folder.json("data", "sample", "cifar10")
    trained = folder.run("train", "--epochs", "1", "--seed", "0")
    assert trained.returncode == 0, trained.stderr
    assert not {"Traceback", "WARNING"} & set(re.findall(r"\w+", trained.stderr)), trained.stderr
    assert "promote" in trained.stdout
    assert folder.json("models")
