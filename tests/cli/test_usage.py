"""What is not understood is exit code 2; an error is an object with `--json`; completion by the shell's name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from openmlops.cli.show import print_json
from openmlops.errors import DataError
from openmlops.terminal import exit_code


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(cwd), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "openmlops", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_what_is_not_understood_is_exit_code_2_and_names_the_help(tmp_path: Path) -> None:
    done = run("history", "--nope", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr == "error: In 'openmlops history --nope --json': No such option: --nope. See 'openmlops history --help'.\n"
    )
    assert json.loads(done.stdout)["error"]["exit_code"] == 2


def test_an_error_is_an_object_with_json(tmp_path: Path) -> None:
    done = run("history", "nobody", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert done.returncode == error["exit_code"] == 1
    assert done.stderr == f"error: {error['problem']}. {error['remedy']}.\n"


def test_help_is_a_command(tmp_path: Path) -> None:
    assert run("help", "rollback", cwd=tmp_path).stdout == run("rollback", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("shell", "mark"), [("zsh", "#compdef openmlops"), ("bash", "complete -o default"), ("fish", "complete")]
)
def test_completion_is_that_of_the_shell_that_is_named(tmp_path: Path, shell: str, mark: str) -> None:
    assert mark in run("--show-completion", shell, cwd=tmp_path).stdout


def test_completion_is_installed_for_the_shell_that_is_named(tmp_path: Path) -> None:
    done = run("--install-completion", "zsh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".zfunc" / "_openmlops").read_text().startswith("#compdef openmlops")
    assert run("--install-completion", "tcsh", cwd=tmp_path).returncode == 2


def test_an_error_after_the_result_is_no_second_object(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        print_json({"found": 1})
        raise DataError("it did not pass", "Correct it")

    assert exit_code(command, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {"found": 1}
