"""Ctrl-C at any moment from the first import on: one line, 130, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAID = "Interrupted; the same command resumes.\n"
AT_IMPORT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == WANTED:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

WANTED, *words = sys.argv[1:]
sys.argv = ["openmlops", *words]
from openmlops.entry import main
sys.meta_path.insert(0, Interrupting())
main()
print("not interrupted")
"""
AT_CALL = """
import sys
from openmlops.entry import main

def interrupting(*arguments, **named):
    import os, signal
    {how}

import openmlops.operations.release.listing as listing
listing.overview = interrupting
sys.argv = ["openmlops", "models"]
main()
"""


def run(code: str, *words: str, cwd: Path) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "OPENMLOPS_HOME"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", ["openmlops.cli", "typer", "openmlops.settings", "sqlalchemy", "openmlops.adapters.ledger"])
def test_while_a_module_is_imported(tmp_path: Path, module: str) -> None:
    assert run(AT_IMPORT, module, "history", "toy", cwd=tmp_path) == (130, "", SAID)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words"),
    [*((module, ("train",)) for module in ("numpy", "torch", "mlflow", "zenml", "pandas")), ("dvc", ("data", "sample"))],
)
def test_while_heavy_libraries_are_imported(tmp_path: Path, module: str, words: tuple[str, ...]) -> None:
    (tmp_path / "data" / "raw" / "cifar10").mkdir(parents=True)
    code, out, err = run(AT_IMPORT, module, *words, cwd=tmp_path)
    assert (code, out) == (130, "")
    assert err.endswith(SAID)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "how",
    [
        "os.kill(os.getpid(), signal.SIGINT)",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "try:\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n        raise RuntimeError('a library') from None",
        "class Held:\n        def __del__(self):\n            os.kill(os.getpid(), signal.SIGINT)\n"
        "    held = Held()\n    del held\n    import time\n    time.sleep(60)",
    ],
    ids=["in our code", "SIGTERM", "made another error by a library", "where Python ignores exceptions"],
)
def test_while_a_command_works(tmp_path: Path, how: str) -> None:
    assert run(AT_CALL.format(how=how), cwd=tmp_path) == (130, "", SAID)
