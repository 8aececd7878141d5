"""The self-test injects what it says, notices what does not hold, and says so in a table, in JSON and by its exit code."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openmlops.adapters.input_store import InputStore
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.sqlite_file import SqliteFile
from openmlops.cli import app
from openmlops.errors import OpenMLOpsError
from openmlops.selftest import faults, run
from openmlops.selftest.faults import Broken, Fault

QUICK = (faults.taken_away, faults.damaged_input, faults.hostile_archive, faults.writers_at_once, faults.altered_ledger)


@pytest.mark.parametrize("fault", QUICK)
def test_a_promise_holds(fault: Callable[[Path], str], tmp_path: Path) -> None:
    assert fault(tmp_path)


def believe_archives(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(faults, "open_tar", tarfile.open)


def believe_names(patch: pytest.MonkeyPatch) -> None:
    put = InputStore.put
    patch.setattr(InputStore, "put", lambda self, content, name: None if self.holds(name) else put(self, content, name))


def never_look_at_the_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SqliteFile, "require_same", lambda self, connection: None)
    patch.setattr(SqliteFile, "_check", lambda self, *values: None)


def never_verify(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "history", lambda self, model: ())


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (believe_archives, faults.hostile_archive),
        (believe_names, faults.damaged_input),
        (never_look_at_the_file, faults.taken_away),
        (never_verify, faults.altered_ledger),
    ],
)
def test_a_promise_that_is_not_kept_is_noticed(
    spoil: Callable[[pytest.MonkeyPatch], None],
    fault: Callable[[Path], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch)
    with pytest.raises((Broken, tarfile.TarError, OpenMLOpsError)):
        fault(tmp_path)


def test_what_does_not_hold_is_shown_and_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> str:
        raise Broken("it was lost")

    two = (Fault("One", "a fault", lambda folder: "3 of 3"), Fault("Two", "another", broken))
    monkeypatch.setattr(run.run_faults, "__defaults__", (two,))
    shown = CliRunner().invoke(app, ["selftest", "--faults"])
    assert "One\ta fault\tok\t3 of 3\t" in shown.stdout
    assert "Two\tanother\tfailed\tit was lost\t" in shown.stdout
    assert str(shown.exception).startswith("1 of 2 promises did not hold: Two.")
    found = json.loads(CliRunner().invoke(app, ["selftest", "--faults", "--json"]).stdout)
    assert [(row["promise"], row["holds"], row["figure"]) for row in found["rows"]] == [
        ("One", True, "3 of 3"),
        ("Two", False, "it was lost"),
    ]


def test_it_is_told_what_to_test() -> None:
    assert "Pass --faults" in str(CliRunner().invoke(app, ["selftest"]).exception)


@pytest.mark.slow
def test_all_promises_hold_here() -> None:
    done = CliRunner().invoke(app, ["selftest", "--faults", "--json"], catch_exceptions=False)
    assert [row for row in json.loads(done.stdout)["rows"] if not row["holds"]] == []
    assert done.exit_code == 0
