"""Claims about `train --folds`: every image predicted by a model that has not seen it, and nothing trained twice."""

import json

import numpy as np
import pytest

from openmlops.core.intervals import widened, wilson
from openmlops.core.types import TrainedRef
from openmlops.errors import SettingsError
from openmlops.operations.data import datasets
from openmlops.operations.release.model_card import model_card
from openmlops.operations.release.rebuilt_model import RebuiltModel
from openmlops.operations.training import cross_validation
from openmlops.operations.training.cross_validation import FILE, cross_validate
from openmlops.operations.workspace import Workspace
from openmlops.usecases import splitting
from openmlops.usecases.base import Rows
from small_loop import train, workspace

FOLDS = 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, TrainedRef]:
    found = workspace(tmp_path_factory.mktemp("folds") / "home")
    datasets.make_sample(found)
    return found, train(found, steps=20)[1]


@pytest.fixture(scope="module")
def crossed(trained: tuple[Workspace, TrainedRef]) -> TrainedRef:
    return cross_validate(*trained, FOLDS)


def test_every_training_and_validation_image_counts_once(trained, crossed: TrainedRef) -> None:
    found, _ = trained
    splits, result = crossed.splits, crossed.cross_validation
    assert result is not None
    assert (result.folds, result.images, result.metric) == (FOLDS, splits.train + splits.validation, "accuracy")
    right = round(result.score.value * result.images)
    assert result.score == widened(wilson(right, result.images), FOLDS)
    run = found.tracking._client.get_run(crossed.run_id)
    names = [f"cross_validation_{name}" for name in ("accuracy", "accuracy_low", "accuracy_high", "folds", "images")]
    values = [result.score.value, result.score.low, result.score.high, FOLDS, result.images]
    assert [run.data.metrics[name] for name in names] == values
    assert json.loads(found.tracking.read_files(crossed.run_id, "")[FILE]) == result.model_dump(mode="json")


def test_the_weights_are_those_of_the_ordinary_split_and_the_card_says_so(trained, crossed: TrainedRef) -> None:
    found, before = trained
    assert crossed.model_copy(update={"cross_validation": None}) == before
    rebuilt = RebuiltModel(found, crossed)
    evaluation = found.use_case.task.evaluate(
        np.array([0, 1]), np.eye(10, dtype=np.float32)[:2], rebuilt.rows.names, "test", "f"
    )
    card = model_card(rebuilt.describe(evaluation, 0.0))
    assert f"Cross-validation with {FOLDS} folds: accuracy" in card
    assert "its weights are of the ordinary split" in card


def test_given_again_nothing_is_trained(trained, crossed: TrainedRef) -> None:
    found, before = trained
    blocked = Workspace(found.settings)
    object.__setattr__(blocked, "use_case", _without_fit(found))
    assert cross_validate(blocked, before, FOLDS) == crossed


def _without_fit(found: Workspace):
    from dataclasses import replace

    return replace(found.use_case, fit=lambda *_, **__: pytest.fail("it was trained again"))


def test_more_folds_than_images_are_refused(trained) -> None:
    with pytest.raises(SettingsError, match="--folds is 10000, and there are"):
        cross_validate(*trained, 10_000)


def copied_rows() -> Rows:
    """90 images of three classes, of which 30 are copies of one each."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    images = np.concatenate([images, images[:30]])
    return Rows(images, np.arange(90) % 3, ("a", "b", "c"), np.zeros(90, bool))


def test_copies_share_a_fold_and_count_once_and_classes_are_spread_alike() -> None:
    rows, pool = copied_rows(), np.arange(90)
    fold = splitting.folds(rows, pool, 5, seed=3)
    assert (fold[60:] == fold[:30]).all()
    assert splitting.distinct(rows, pool).tolist() == list(range(60))
    of_class = np.array([[np.sum((fold[:60] == k) & (rows.labels[:60] == c)) for c in range(3)] for k in range(5)])
    assert (of_class == 4).all()
    assert (splitting.folds(rows, pool, 5, seed=4) != fold).any()


def test_no_image_is_predicted_by_a_model_that_was_trained_on_it_or_on_a_copy() -> None:
    rows, pool = copied_rows(), np.arange(90)
    parts = cross_validation._parts(rows, pool, 5, 0.2, seed=0)
    digests = [image.tobytes() for image in rows.images]
    for part in parts:
        sets = [{digests[row] for row in part[name]} for name in ("train", "validation", "test")]
        assert not sets[0] & sets[2]
        assert not sets[1] & sets[2]
        assert not sets[0] & sets[1]
        assert all(sets)
    assert np.sort(np.concatenate([part["test"] for part in parts])).tolist() == list(range(90))
