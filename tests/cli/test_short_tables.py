"""In a terminal of 80 columns each row of a table is one line, whole; `--full` and a pipe get every column."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from in_process import run
from openmlops.adapters.decisions import DecisionRecord
from openmlops.operations.release.aliases import repair
from openmlops.operations.workspace import Workspace

REASON = "Brightness moved by 0.4 in two windows, which is more than chance moves it in a year of such windows"
DECISION = "1f37d9a2720c"


@pytest.fixture
def told(loop: Workspace) -> Workspace:
    """A champion, and a decision about it with a long reason."""
    now = datetime(2026, 11, 1, 8, 5, 7, tzinfo=UTC)
    record = DecisionRecord(
        id=DECISION, model="cifar10_cnn", version=1, at=now, action="collect_labels", reasons=(REASON,), by="a test"
    )
    loop.decisions.append(record)
    repair(loop, "cifar10_cnn")
    return loop


def plain(text: str) -> list[str]:
    """Lines without styles."""
    return re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()


@pytest.mark.parametrize("command", ["history cifar10_cnn", "decisions", "models"])
def test_a_row_is_one_line_of_at_most_80_columns(
    command: str, told: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s = told.settings
    places = {"OPENMLOPS_HOME": str(s.home), "DATABASE_URL": s.database, "DATA_RAW_DIR": str(s.data_raw_dir)}
    terminal = {**places, "FORCE_COLOR": "1", "COLUMNS": "80"}
    words = tuple(command.split())
    piped = run(words, tmp_path, capsys, places).out.splitlines()
    short = plain(run(words, tmp_path, capsys, terminal).out)
    full = "".join(plain(run((*words, "--full"), tmp_path, capsys, terminal).out))
    rows = [line for line in short if line.startswith("│")]
    assert len(rows) == len(piped) - 1
    assert max(map(len, short)) <= 80
    assert "reasons" not in "".join(short[:3])
    if command == "decisions":
        assert f"│ {DECISION} │ 2026-11-01 08:05 │ 1       │ collect labels │" in rows[-1]
        assert REASON in piped[-1]
        assert "moved" in full
