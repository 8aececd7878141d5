"""A new data version's test split may hold images that the champion was trained on: nobody is compared on them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import toy_promotion as toy
from openmlops.adapters.registry import DATASET_TAG
from openmlops.errors import GateError
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.data.rows import rows_of
from openmlops.operations.release import promotion, trained_on
from openmlops.operations.workspace import Workspace

OLD, NEW = 2, 5
"""the model that becomes champion, right on 76 % of new images, and its challenger, right on 80 %"""
KNOWN = 500


def memorised(home: Path) -> Workspace:
    """Of the 2,000 test images the old model knows the first 500 by heart."""
    found = toy.workspace(home)
    toy.write_data(found.data_folder)
    with np.load(found.data_folder / "rows.npz") as stored:
        images, labels = stored["images"].copy(), stored["labels"]
    images[:KNOWN, 0, OLD, 0] = labels[:KNOWN]
    images[:, 0, 6, 0], images[:, 0, 7, 0] = np.arange(2000) % 251, np.arange(2000) // 251  # no two images are equal
    np.savez(found.data_folder / "rows.npz", images=images, labels=labels)
    return found


def register(found: Workspace, k: int, seen: np.ndarray | None):
    folder = found.home / "exports" / str(k)
    folder.mkdir(parents=True)
    toy.write_model(folder / "model.onnx", k)
    if seen is not None:
        trained_on.write(folder, rows_of(found, toy.splits(found).dataset).images, seen)
    Manifest.of(folder).write(folder / MANIFEST)
    run_id = found.tracking.start("toy", {}, {})
    found.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, datetime.now(UTC))
    return found.registry.register(toy.NAME, run_id, folder, {DATASET_TAG: "d" * 64})


@pytest.mark.parametrize("is_sealed", [True, False])
def test_an_honest_challenger_wins_although_the_champion_knows_a_quarter_of_the_test_split(tmp_path: Path, is_sealed: bool):
    found = memorised(tmp_path / "home")
    old = register(found, OLD, np.arange(KNOWN) if is_sealed else None)
    assert promotion.decide(found, old, toy.splits(found)).champion == old.version
    new = register(found, NEW, np.zeros(0, np.int64))
    verdict = promotion.decide(found, new, toy.splits(found)).verdict
    (compared,) = (each for each in verdict.comparisons if each.opponent == old.version)
    if is_sealed:
        assert (verdict.outcome, compared.n) == ("promote", 2000 - KNOWN)
        assert verdict.reasons[-1] == "500 of 2000 test images are left out: this version or a champion was trained on them."
    else:
        assert (verdict.outcome, compared.n) == ("reject", 2000), "the defect is no longer shown"


def test_a_test_split_that_somebody_knows_whole_compares_nobody(tmp_path: Path):
    found = memorised(tmp_path / "home")
    old = register(found, OLD, np.arange(2000))
    with pytest.raises(GateError, match=r"All 2000 images of the test split .* were trained on by a version to be compared"):
        promotion.decide(found, old, toy.splits(found))
