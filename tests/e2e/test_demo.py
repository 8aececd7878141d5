"""The demo is the whole loop: a fact in its output is one that it checked, and one line that is not true fails it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from openmlops.demo.telling import Story
from openmlops.errors import OpenMLOpsError


@pytest.mark.slow
@pytest.mark.parametrize("use_case", ["cifar10", "person"])
def test_the_loop_goes_once_round(tmp_path: Path, use_case: str) -> None:
    """Drift is found where it is and not where it is not; nothing is lost; the better model goes live; accuracy comes back."""
    command = [Path(sys.executable).parent / "openmlops", "demo", str(tmp_path / "demo"), "--use-case", use_case, "--json"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["drift_on_clean"], found["drift_on_corrupted"]) == (False, True)
    assert (found["failed_requests"], found["lost_records"]) == (0, 0)
    assert found["accuracy"]["degraded"] < found["accuracy"]["clean"] - 0.1
    assert found["accuracy"]["recovered"] > found["accuracy"]["degraded"] + 0.1
    assert found["champion"] == {"before": 1, "after": 2}
    page = Path(found["report"]).read_text()
    assert page.count("<svg") == 2
    assert not re.search(r"(src|href)=[\"']?https?://", page)


def test_a_line_that_is_not_true_fails_the_demo() -> None:
    with pytest.raises(OpenMLOpsError, match="The demo did not produce"):
        Story("accuracy").fact(False, "drift", "found")


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = subprocess.run([sys.executable, "-m", "openmlops", "demo", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "was not created by the demo" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
