"""Claims about the report: our checks come first, every test is named, and nothing leaves the machine."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from openmlops.adapters import evidently_report
from openmlops.adapters.evidently_report import HTML, JSON, P_VALUE, write_report


def frame(n: int, seed: int, moved: int = 0) -> pd.DataFrame:
    """Four columns, of which the first `moved` are two standard deviations off."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({f"embedding.{i}": rng.normal(2.0 * (i < moved), 1, n).astype(np.float32) for i in range(4)})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: Any) -> None:
        raise AssertionError(f"a connection to {address} was tried")

    monkeypatch.setenv("DO_NOT_TRACK", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_the_share_counts_the_columns_that_moved_and_every_test_is_named(tmp_path: Path) -> None:
    report = write_report(frame(1500, 1, moved=3), frame(2000, 2), tmp_path)
    assert report.share_of_drifted_columns == 0.75
    assert {name for name, p_value in report.p_values.items() if p_value < P_VALUE} == {f"embedding.{i}" for i in range(3)}
    count, *columns = json.loads((tmp_path / JSON).read_text())["metrics"]
    assert count["config"]["per_column_method"] == dict.fromkeys(report.p_values, "ks")
    assert [(c["config"]["method"], c["config"]["threshold"]) for c in columns] == [("ks", P_VALUE)] * 4
    page = (tmp_path / HTML).read_text()
    assert "embedding.3" in page
    assert page.lstrip().startswith("<")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.iloc[:49], "49 rows"),
        (lambda f: f.drop(columns="embedding.1"), "embedding.1 is missing"),
        (lambda f: f.assign(other=1.0), "other is not in the reference"),
        (lambda f: f.assign(**{"embedding.1": np.nan}), "NaN"),
        (lambda f: f.assign(**{"embedding.1": np.inf}), "infinite"),
        (lambda f: f.assign(**{"embedding.1": "x"}), "object"),
    ],
)
def test_a_frame_that_cannot_be_compared_gives_no_share_and_no_old_file(tmp_path: Path, spoil: Any, words: str) -> None:
    (tmp_path / HTML).write_text("of last time")
    report = write_report(spoil(frame(200, 1)), frame(200, 2), tmp_path)
    assert report.share_of_drifted_columns is None
    assert any(words in problem for problem in report.problems)
    assert list(tmp_path.iterdir()) == []


def test_evidently_sees_at_most_the_stated_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = evidently_report._run
    monkeypatch.setattr(evidently_report, "MOST_ROWS", 100)
    monkeypatch.setattr(evidently_report, "_run", lambda *both: seen.extend(map(len, both)) or run(*both))
    write_report(frame(150, 1), frame(99, 2), tmp_path)
    assert seen == [100, 99]
