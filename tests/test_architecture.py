"""The direction of imports, and what an import costs: claims of docs/architecture.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from user_folder import SEVERAL

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "openmlops"


def test_the_import_contracts_hold() -> None:
    lint = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout


def test_only_settings_reads_the_environment() -> None:
    """Writing a variable for a library that knows no other way (prometheus-client's folder) is no reading; nor is putting back
    what ultralytics writes into the environment when it is imported (yolo_folder/yolo.py); nor is the word in a pattern for
    other people's code (adoption/passwords.py)."""
    writing = re.compile(r'os\.environ\["\w+"\] = ')
    readers = {
        path.name
        for path in SOURCE.rglob("*.py")
        if re.search(r"os\.environ|os\.getenv|from os import", writing.sub("", path.read_text()))
    }
    assert readers <= {"settings.py", "telemetry.py", "yolo.py"}


@pytest.mark.slow
def test_importing_a_module_writes_nothing(tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        for path in SOURCE.rglob("*.py")
        if path.stem != "__init__" and "migrations" not in path.parts
    ]
    code = f"import importlib; [importlib.import_module(m) for m in {modules!r}]; print(len({modules!r}))"
    assert int(_python(code, cwd=tmp_path, HOME=str(tmp_path))) == len(modules)
    assert [p.name for p in tmp_path.iterdir() if p.name not in (".cache", ".config", ".local")] == []


def _python(code: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


HIDDEN = """
import sys
for name in ("ultralytics", "torchvision", "cv2"):
    sys.modules[name] = None
import importlib
sample = importlib.import_module("openmlops.usecases.person.sample")
sample.COUNTS = {"train": 20, "val": 10, "test": 10}
"""
"""Where the extra `yolo` is not installed; a small part of the sample, for the time that drawing takes."""


def test_without_the_extra_data_of_people_is_made_and_checked_and_training_names_the_extra_in_one_line(tmp_path: Path) -> None:
    """ultralytics is under AGPL-3.0: whoever does not install it must be able to do all else."""
    commands = [
        ("data", "sample", "person"),
        ("data", "check", "person"),
        ("train", "--use-case", "person", "--epochs", "1"),
    ]
    arguments = [sys.executable, "-c", HIDDEN + SEVERAL, json.dumps(commands)]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, checked, (code, _, said) = json.loads(done.stdout)
    assert (made[0], checked[0], code) == (0, 0, 1)
    assert len(list((tmp_path / "data" / "raw" / "person" / "images").rglob("*.png"))) == 40
    (line,) = said.strip().splitlines()
    assert line.startswith("error: This requires the optional extra 'yolo', which is not installed")
    assert "pip install 'openmlops[yolo]'" in line
    assert not list((tmp_path / ".openmlops").glob("zenml*")), "it is told before ZenML is started"
