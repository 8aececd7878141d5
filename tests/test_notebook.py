"""The notebook of the examples runs in a world with two champions, drift and labels, and its tables say what happened there."""

import os
from datetime import timedelta
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from openmlops.adapters.evidently_report import EvidentlyReport
from openmlops.errors import LedgerCorrupt
from openmlops.operations.monitoring import frames, monitor, windows
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from small_loop import NOON, fresh_images, label, send

NOTEBOOK = Path(__file__).parent.parent / "examples" / "log_and_ledger.ipynb"
NO_REPORT = EvidentlyReport(problems=("not drawn in this test",))
DARK = ("contrast", 4)


@pytest.fixture
def world(loop: Workspace) -> Workspace:
    """A champion in good light, with labels; then in the dark; then judged on too few answers; then followed by another."""
    first = load_latest_model(loop)
    images, labels = fresh_images(120, seed=1)
    label(loop, send(loop, first, images), labels)
    decide(loop, hours=1, last=120)
    send(loop, first, fresh_images(120, seed=2)[0], NOON + timedelta(hours=1), DARK)
    decide(loop, hours=2, last=120)
    decide(loop, hours=3, last=10)
    head = loop.ledger.head(first.name)
    assert head
    reasons, later = ("for the notebook",), NOON + timedelta(days=400)
    loop.ledger.append(first.name, head.sequence, "promote", 2, "test", reasons, head.dataset, "0" * 64, None, later)
    return loop


def decide(loop: Workspace, hours: int, last: int) -> None:
    """Judge the last answers; long after the champion was made, by the clock of the test."""
    now = NOON + timedelta(days=400, hours=hours)
    window = windows.collect_inference_data(loop, load_latest_model(loop), last, "log", now)
    monitor.trigger_decision(loop, window, NO_REPORT, now, "test")


def environment(loop: Workspace) -> dict[str, str]:
    """What a user has set whose installation this is."""
    outside = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    ours = {"OPENMLOPS_HOME": str(loop.home), "DATABASE_URL": loop.settings.database}
    return {**outside, **ours, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def test_the_notebook_and_its_tables_tell_what_happened(world: Workspace, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=environment(world))
    shown = "\n".join(
        str(output.get("text", output.get("data", ""))) for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "1 of 3 decisions rest on a window that could not be measured" in shown
    assert world.model_name in shown
    assert sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())) == 3

    ledger, decisions, scores = frames.ledger(world), frames.decisions(world), frames.scores(world)
    assert list(ledger["champion"]) == [1, 2]
    assert list(decisions["drift"]) == ["no_drift", "drift", "not_measurable"]
    passed = decisions["statistic"] > decisions["threshold"]
    assert list(passed) == [False, True, False]
    assert decisions["statistic"].isna().tolist() == [False, False, True]
    assert scores[["answers", "labels"]].values.tolist() == [[240, 120], [0, 0]]
    assert scores["value"].isna().tolist() == [False, True]

    predictions = frames.predictions(world, 1)
    labelled = predictions.dropna(subset="label")
    assert (labelled["prediction"] == labelled["label"]).mean() == pytest.approx(scores.loc[1, "value"])
    assert predictions["at"].is_monotonic_increasing

    with world.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET actor = 'somebody else' WHERE sequence = 1")
    with pytest.raises(LedgerCorrupt):
        frames.ledger(world)


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_a_model_that_never_was_has_empty_tables(tmp_path: Path) -> None:
    empty = Workspace(Settings(openmlops_home=tmp_path))
    assert [len(frames.ledger(empty)), len(frames.decisions(empty)), len(frames.scores(empty))] == [0, 0, 0]
    assert len(frames.predictions(empty, 1)) == 0
