"""`python -m` with a pipeline is a program like `openmlops`: in UTF-8 whatever the locale, one line for an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmlops.pipelines import stack
from openmlops.terminal import is_utf8

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROGRAMS = ("training_pipeline", "monitoring_pipeline", "person_baseline", "person_grid")
SAY = """
import sys
from pathlib import Path
from openmlops.pipelines.stack import program
sys.exit(program(lambda: print(next(Path().iterdir()).name, sys.flags.utf8_mode)))
"""


def test_a_program_restarts_in_utf8_where_the_locale_is_not(tmp_path: Path) -> None:
    """As with `python -c`: the same words are given again."""
    (tmp_path / "données").mkdir()
    done = subprocess.run([sys.executable, "-c", SAY], capture_output=True, cwd=tmp_path, env={"PATH": os.defpath, **ASCII})
    assert (done.stdout.decode(), done.returncode) == ("données 1\n", 0), done.stderr


def test_every_pipeline_that_can_be_started_is_such_a_program() -> None:
    folder = Path(stack.__file__).parent
    started = {path.stem for path in folder.glob("*.py") if 'if __name__ == "__main__"' in path.read_text()}
    assert started == set(PROGRAMS)
    assert all("sys.exit(program(this.main))" in (folder / f"{name}.py").read_text() for name in started)
    assert is_utf8()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pipeline_in_a_folder_with_an_accent_says_one_line_in_an_ascii_locale(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "données"
    folder.mkdir()
    (folder / ".env").write_text("MLFLOW_EXPERIMENT_NAME=données\nSERVICE_PATIENCE_SECONDS=0\n", "utf-8")
    words = [sys.executable, "-m", f"openmlops.pipelines.{name}"]
    done = subprocess.run(words, capture_output=True, cwd=folder, env={"PATH": os.defpath, "HOME": str(tmp_path), **ASCII})
    line = done.stderr.decode().strip().splitlines()[-1]
    assert done.returncode == 1
    assert line.startswith("error: ")
    assert "is a bug" not in line
    assert "données" in line or "champion" in line, line
