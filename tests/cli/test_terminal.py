"""What a person sees in a terminal, and that a pipe gets the same without its decoration."""

import errno
import os
import pty
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

import in_process
from mlflow_tables import with_tables
from openmlops import terminal
from openmlops.cli.show import STYLES, print_line, print_table, styled

OPENMLOPS = str(Path(sys.executable).with_name("openmlops"))
ESCAPE = "\x1b["


def _in_a_terminal(*words: str, cwd: Path) -> str:
    """What a command shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen([OPENMLOPS, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_gets_colours_and_a_pipe_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tables(tmp_path / ".openmlops" / "mlflow.db")
    shown = _in_a_terminal("doctor", cwd=tmp_path)
    piped = in_process.run(("doctor",), tmp_path, capsys).out
    assert f"{ESCAPE}32mok" in shown
    assert ESCAPE not in piped
    assert piped.startswith("ok ")


def test_a_table_is_drawn_in_a_terminal_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_table("Versions", ("version", "status"), [("m/1", "champion"), ("m/2", "[odd]")])
    assert capsys.readouterr().out == "version\tstatus\nm/1\tchampion\nm/2\t[odd]\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_table("Versions", ("version", "status"), [("m/1", "champion"), ("m/2", "[odd]")])
    drawn = capsys.readouterr().out
    assert f"{ESCAPE}32mchampion" in drawn
    assert "[odd]" in drawn


@pytest.mark.parametrize("name", ["/data/[bold]x[/]", "[/", "a[0].png", "\\[", "[link=x]", ":smile:"])
def test_a_name_is_shown_as_it_is_written(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever prints it, in a pipe and in a terminal."""
    open_stderr = terminal.stderr.__wrapped__
    for variable in ("NO_COLOR", "FORCE_COLOR"):  # the second makes a terminal of what follows
        monkeypatch.setenv(variable, "1")
        monkeypatch.setattr(terminal, "stderr", cache(open_stderr))
        terminal.say(name)
        terminal.say(("styled", "bold"), f" {name}")
        terminal.chapter(name)
        terminal.fail(name)
        assert capsys.readouterr().err.count(name) == 4
        with terminal.working(name), terminal.bar(name) as show:
            show(1, 2, name)
        assert (name in capsys.readouterr().err) is (variable == "FORCE_COLOR")
        print_table(name, (name,), [(name,)])
        assert capsys.readouterr().out.count(name) >= 2


def test_only_what_says_how_something_stands_is_coloured() -> None:
    assert styled("no_drift").style == STYLES["no drift"] == "green"
    assert styled("drift").style == "bold red"
    assert styled("a drift of the camera").style == ""


def test_a_line_is_not_wrapped_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(styled("ok"), " [not markup] ", "x" * 300)
    assert capsys.readouterr().out == f"ok [not markup] {'x' * 300}\n"


def test_what_is_being_done_is_shown_in_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_terminal in (False, True):
        console = Console(stderr=True, force_terminal=is_terminal, width=100)
        monkeypatch.setattr(terminal, "stderr", lambda console=console: console)
        with terminal.working("Evaluating the latest window"):
            pass
        assert ("Evaluating the latest window" in capsys.readouterr().err) is is_terminal


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "données"),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}, r"donn\xe9es"),
    ],
)
def test_a_locale_without_an_accent_cuts_no_table_off(locale: dict[str, str], shown: str, tmp_path: Path) -> None:
    """A path with an accent, in a process that would read and write ASCII."""
    folder = tmp_path / "données"
    folder.mkdir()
    (folder / ".env").write_text("MODEL_NAME=m\nMLFLOW_EXPERIMENT_NAME=données\n", "utf-8")
    done = subprocess.run([OPENMLOPS, "settings"], capture_output=True, cwd=folder, env={"PATH": os.defpath, **locale})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert any(line.startswith(f"MLFLOW_EXPERIMENT_NAME\t{shown}\t") for line in lines)
    assert lines[-1].startswith("NOTIFY_WEBHOOK_SECRET")


def test_a_full_disk_is_no_bug_also_where_the_system_names_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert terminal.exit_code(write) == 1
    told = "error: A file cannot be written (No space left on device). Free some space, or use another disk."
    assert capsys.readouterr().err == f"{told}\n"


def test_a_name_with_control_characters_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.stderr.cache_clear()
    terminal.say("- \x1b[2J\x1c.png: \x9b1m\n", ("styled\x07", "bold"))
    assert capsys.readouterr().err == "- \\x1b[2J\\x1c.png: \\x9b1m\nstyled\\x07\n"
    terminal.stderr.cache_clear()
