"""A verdict is written once, whatever becomes of the answer of the database."""

from pathlib import Path

import toy_promotion as toy
from answer_cutter import AnswerCutter
from openmlops.adapters.database import connect
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.registry import DATASET_TAG
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.release import promotion
from openmlops.operations.retries import retry
from postgres import postgres
from small_loop import NOON


def test_a_verdict_whose_commit_was_answered_by_a_cut_is_one_row(tmp_path: Path) -> None:
    """Judged once more, the new champion would be compared with itself."""
    workspace = toy.workspace(tmp_path / "home")
    splits, folder = toy.splits(workspace), tmp_path / "export"
    folder.mkdir()
    toy.write_model(folder / "model.onnx", 2)
    Manifest.of(folder).write(folder / MANIFEST)
    run_id = workspace.tracking.start("toy", {}, {})
    workspace.tracking.log_metrics(run_id, {"test_accuracy": 0.76}, NOON)
    model = workspace.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: "d" * 64})
    with postgres() as server, AnswerCutter(server.port, b"COMMIT") as cutter:
        database = server.create()
        workspace.__dict__["ledger"] = Ledger(connect(server.url(database, cutter.port)))
        cutter.left = 1
        entry = retry(promotion.decide, workspace, model, splits)
        assert cutter.cut == 1
        assert Ledger(connect(server.url(database))).history(toy.NAME) == (entry,)
    assert (entry.kind, entry.champion) == ("promote", model.version)
