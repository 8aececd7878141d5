"""Completion, asked for as a shell asks: what is there is offered, what is not there is not spoken of, and nothing is made."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openmlops.adapters.decisions import DecisionRecord, Decisions
from openmlops.adapters.known_names import decisions, versions
from openmlops.adapters.ledger import Ledger
from openmlops.cli import app
from openmlops.settings import Settings
from user_folder import PROGRAM, Folder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
VERSIONS = [f"cifar10_cnn/{version}" for version in (12, 3, 2, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A user's folder with a ledger of two models, a decision, and a use case of one's own."""
    found = Folder(tmp_path_factory.mktemp("completion"))
    found.workspace.home.mkdir()
    engine = found.workspace.engine
    ledger = Ledger(engine)
    for sequence, version in enumerate((1, 2, 3, 12, 2)):
        ledger.append("cifar10_cnn", sequence, "promote", version, "test", ("better",), "data", "0" * 64, None, NOON)
    ledger.append("person_yolo", 0, "reject", 1, "test", ("worse",), "data", "0" * 64, None, NOON)
    about = DecisionRecord(id="abc123", model="cifar10_cnn", version=1, at=NOON, action="nothing", reasons=("calm",), by="test")
    Decisions(engine).append(about)
    (found.path / "flowers.py").write_text("USE_CASE = None\n")
    (found.path / "other.py").write_text("print('not a use case')\n")
    return found


@pytest.fixture
def offered(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What bash would show after some words, the last of which is still being typed. In this process, because it is quicker."""
    monkeypatch.chdir(folder.path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def ask(*words: str, **environment: str) -> list[str]:
        found = CliRunner().invoke(app, prog_name="openmlops", env=asked(*words) | environment, catch_exceptions=False)
        assert (found.exit_code, found.stderr) == (0, "")
        return found.stdout.split()

    return ask


def asked(*words: str) -> dict[str, str]:
    """What bash tells a program whose words it wants to complete."""
    typed = "\n".join(("openmlops", *words))
    return {"_OPENMLOPS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words))}


def test_versions_are_offered_the_newest_first_and_only_those_that_begin_so(offered) -> None:
    assert offered("promote", "") == [*VERSIONS, "person_yolo/1"]
    assert offered("promote", "cifar10_cnn/1") == ["cifar10_cnn/12", "cifar10_cnn/1"]


def test_where_an_alias_will_do_aliases_are_offered_too(offered) -> None:
    assert offered("evaluate", "p") == ["person_yolo@champion", "person_yolo@staging", "person_yolo/1"]


def test_models_decisions_and_use_cases_are_offered(offered) -> None:
    assert offered("history", "") == ["cifar10_cnn", "person_yolo"]
    assert offered("why", "") == ["abc123"]
    assert offered("train", "--use-case", "") == ["cifar10", "person", "flowers:USE_CASE"]
    assert offered("monitor", "--source", "") == ["log", "test-set"]


def test_zsh_is_answered_in_its_own_way(folder: Folder) -> None:
    of_zsh = {"_OPENMLOPS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "openmlops rollback "}
    done = subprocess.run([PROGRAM], cwd=folder.path, env=folder.environment | of_zsh, capture_output=True, text=True)
    assert re.findall(r'"(\w+)"', done.stdout) == ["cifar10_cnn", "person_yolo"]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_a_real_bash_completes_with_the_script_that_it_is_given(folder: Folder) -> None:
    script = """eval "$(_OPENMLOPS_COMPLETE=source_bash openmlops)"
    COMP_WORDS=(openmlops promote cifar10_cnn/); COMP_CWORD=2
    _openmlops_completion openmlops; printf '%s\\n' "${COMPREPLY[@]}"; complete -p openmlops"""
    environment = folder.environment | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=folder.path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [*VERSIONS, "complete -o default -F _openmlops_completion openmlops"]


def test_without_a_workspace_nothing_is_offered_said_or_made(tmp_path: Path) -> None:
    empty = Folder(tmp_path)
    done = subprocess.run([PROGRAM], cwd=tmp_path, env=empty.environment | asked("promote", ""), capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["user"]


def test_a_file_that_is_no_database_and_a_server_that_is_away_are_not_spoken_of(offered, tmp_path: Path) -> None:
    (tmp_path / "rubbish.db").write_bytes(b"\0" * 5000)
    assert offered("promote", "", DATABASE_URL=f"sqlite:///{tmp_path / 'rubbish.db'}") == []
    with socket.socket() as silent:  # takes no connection: its queue is full
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        with socket.create_connection(silent.getsockname()):
            port = silent.getsockname()[1]
            assert offered("promote", "", DATABASE_URL=f"postgresql://u:p@127.0.0.1:{port}/d") == []


def test_names_that_a_shell_would_run_are_left_out(tmp_path: Path) -> None:
    """Written by somebody who may write to the database."""
    url = f"sqlite:///{tmp_path / 'hostile.db'}"
    with sqlite3.connect(tmp_path / "hostile.db") as connection:
        connection.execute("CREATE TABLE ledger (model TEXT, version INTEGER)")
        connection.execute("CREATE TABLE decision (id TEXT, sequence INTEGER)")
        names = [("$(reboot)", 1), ("a b", 1), ("a\nb", 1), ("good-1.2_x", 7)]
        connection.executemany("INSERT INTO ledger VALUES (?, ?)", names)
        connection.executemany("INSERT INTO decision VALUES (?, ?)", [("`id`", 1), ("abc", 2)])
    connection.close()
    assert versions(url) == [("good-1.2_x", 7)]
    assert decisions(url) == ["abc"]


def test_completing_imports_nothing_heavy(folder: Folder) -> None:
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); from openmlops.cli import main; main()"
    command = [sys.executable, "-c", f"import sys; sys.argv = ['openmlops']; {code}"]
    environment = folder.environment | asked("promote", "")
    done = subprocess.run(command, cwd=folder.path, env=environment, capture_output=True, text=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert VERSIONS[0] in done.stdout.splitlines()
    assert imported & {"torch", "mlflow", "zenml", "dvc", "pandas", "numpy", "sqlalchemy"} == set()
