"""What each command that only reads imports: a fact, where seconds would be a matter of the machine.

A package that is new here is one that everybody waits for. Add it to a list only if the command cannot do its work without.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmlops.adapters.decisions import DecisionRecord
from openmlops.operations.release.aliases import repair, show_states
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

DECISION = "1f37d9a2720c"
TELL = """
import atexit, json, sys
def packages():
    found = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"cython_runtime"}
    return {name for name in found if not name.startswith("_")}
before = packages()
atexit.register(lambda: print(json.dumps(sorted(packages() - before))))
from openmlops.cli import main
main()
"""

TYPER = {"annotated_doc", "openmlops", "shellingham", "typer"}
RICH = {"attr", "markdown_it", "mdurl", "pygments", "rich"}
PYDANTIC = {"annotated_types", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection"}
DATABASE = {"greenlet", "sqlalchemy"}
IMAGES = {"PIL", "numpy"}
REQUESTS = {"backports", "brotli", "certifi", "charset_normalizer", "idna", "requests", "urllib3", "zstandard"}
ALLOWED: dict[str, set[str]] = {
    "--version": TYPER,
    "--help": TYPER | RICH,
    "settings": TYPER | PYDANTIC,
    "history cifar10_cnn": TYPER | PYDANTIC | DATABASE,
    "decisions": TYPER | PYDANTIC | DATABASE,
    f"why {DECISION}": TYPER | PYDANTIC | DATABASE,
    "models": TYPER | PYDANTIC | DATABASE | IMAGES,
    "doctor": TYPER | PYDANTIC | DATABASE | IMAGES | REQUESTS | RICH,
}
"""the packages of others that a command may import, whatever else is installed"""


@pytest.fixture
def told(loop: Workspace) -> Workspace:
    """A champion, and a decision about it."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    record = DecisionRecord(
        id=DECISION, model="cifar10_cnn", version=1, at=now, action="request", reasons=("a look",), by="a test"
    )
    loop.decisions.append(record)
    repair(loop, "cifar10_cnn")  # what another test on the same MLflow left there would be repaired by the command, with MLflow
    show_states(loop, "cifar10_cnn", loop.ledger.history("cifar10_cnn"))
    return loop


def imported(command: str, home: Workspace, folder: Path, **settings: str) -> tuple[set[str], str]:
    """What a command has imported when it ends, and what it printed."""
    s = home.settings
    places = {"OPENMLOPS_HOME": str(s.home), "DATABASE_URL": s.database, "DATA_RAW_DIR": str(s.data_raw_dir)}
    outside = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    environment = outside | places | settings
    done = subprocess.run(
        [sys.executable, "-c", TELL, *command.split()], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    printed, _, names = done.stdout.rstrip("\n").rpartition("\n")
    return set(json.loads(names)), printed


@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_imports_no_more_than_it_needs(command: str, told: Workspace, tmp_path: Path) -> None:
    names, printed = imported(command, told, tmp_path)
    assert printed
    assert names - ALLOWED[command] == set()


@pytest.mark.slow
def test_a_command_that_reads_mlflow_itself_is_seen(told: Workspace, tmp_path: Path) -> None:
    """So that the lists above say something: tables that only MLflow can read are read by it."""
    elsewhere = tmp_path / "mlflow.db"
    names, _ = imported("models", told, tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere}")
    assert {"mlflow", "pandas"} <= names
