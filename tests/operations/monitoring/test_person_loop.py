"""The loop for a detector: what a camera does to its windows is found, labels that are boxes measure it and become new data."""

from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from openmlops.adapters.evidently_report import EvidentlyReport
from openmlops.core.detection.task import DETECTION
from openmlops.core.images.boxes import objects
from openmlops.core.images.corruptions import corrupt
from openmlops.core.images.decoding import png
from openmlops.core.types import ModelRef
from openmlops.errors import DataError
from openmlops.operations.data import datasets, from_production
from openmlops.operations.monitoring import monitor, windows
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import exporting, promotion, registration, scoring
from openmlops.operations.training import train
from openmlops.operations.workspace import Workspace
from openmlops.usecases.person.sample import SEED
from openmlops.usecases.person.sample import field as drawn_field
from small_loop import NOON, branch, label, send, workspace
from small_people import draw_people

pytest.importorskip("openmlops.usecases.yolo_folder.yolo", reason="training a detector needs the extra `yolo`")

COUNTS = {"train": 80, "val": 120, "test": 100}
CONFIG = {"epochs": 3, "imgsz": 96, "threads": 1, "pretrained": "none", "warmup_epochs": 1}
NO_REPORT = EvidentlyReport(problems=("not drawn in this test",))
LATER = NOON + timedelta(days=400)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with scenes like the sample's and a detector that was trained on them a little, in production by hand."""
    home = tmp_path_factory.mktemp("watched")
    found = workspace(home, use_case="person")
    datasets.add(found, draw_people(home / "drawn" / "person", COUNTS, SEED))
    splits = datasets.split(found, datasets.ingest(found), 0)
    trained = train.train(found, splits, train.preprocess(found, splits), CONFIG)
    evaluation = scoring.evaluate(found, trained)
    model = registration.register(found, exporting.export(found, trained, evaluation), trained, evaluation)
    promotion.promote(found, f"{model.name}/{model.version}", "to have something to watch", splits, force=True)
    return found


@pytest.fixture
def loop(watched: Workspace, tmp_path: Path) -> Workspace:
    return branch(watched, tmp_path / "loop", use_case="person")


@cache
def field(part: int) -> tuple[np.ndarray, np.ndarray]:
    """The first scenes of a part, drawn once."""
    return drawn_field(60 if part else 120, part)


def scenes(count: int, part: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What production would send."""
    images, labels = field(part)
    return images[:count].copy(), labels[:count].copy()


def champion(loop: Workspace) -> ModelRef:
    return load_latest_model(loop)


def judge(loop: Workspace, last: int):
    window = windows.collect_inference_data(loop, champion(loop), last, "log", LATER)
    return monitor.trigger_decision(loop, window, NO_REPORT, LATER, "test")


def test_a_window_of_the_same_camera_is_no_drift(loop: Workspace):
    send(loop, champion(loop), scenes(120)[0])
    assert judge(loop, 120).observation.drift.outcome == "no_drift"


@pytest.mark.parametrize(
    "kind",
    ["zoom", "night", pytest.param("blur", marks=pytest.mark.slow), "occlusion", pytest.param("crop", marks=pytest.mark.slow)],
)
def test_what_happens_to_a_camera_is_found(loop: Workspace, kind: str):
    send(loop, champion(loop), corrupt(scenes(120)[0], kind, 3, seed=1))
    drift = judge(loop, 120).observation.drift
    assert drift.outcome == "drift", drift.reasons
    assert any(column.moved for column in drift.columns)


def test_simulated_drift_of_the_test_set_is_found_and_the_verdict_is_measured(watched: Workspace, tmp_path: Path):
    simulating = branch(watched, tmp_path / "simulating", use_case="person", simulate_drift="1")
    outcomes = []
    for each in (branch(watched, tmp_path / "plain", use_case="person"), simulating):
        window = windows.collect_inference_data(each, champion(each), 100, "test-set", LATER)
        outcomes.append(monitor.trigger_decision(each, window, NO_REPORT, LATER, "test").observation.drift.outcome)
    assert outcomes == ["no_drift", "drift"]


def test_the_window_is_a_table_that_a_person_can_read_and_that_gives_back_the_boxes(loop: Workspace):
    images, labels = scenes(60)
    label(loop, send(loop, champion(loop), images)[:40], _labels(loop, labels[:40]))
    window = windows.collect_inference_data(loop, champion(loop), 60, "log", LATER)
    frame = pd.read_parquet(window.local(loop))
    logged = loop.inference_log.window(window.model.name, window.model.version, 60)
    expected = DETECTION.unpack(logged.predictions, 1)
    for found, boxes in zip(DETECTION.from_columns({"boxes": frame["boxes"]}, ()), expected, strict=True):
        np.testing.assert_allclose(found, boxes, atol=1e-3)
    assert frame["label"].notna().sum() == 40


def _labels(loop: Workspace, labels: np.ndarray) -> "Told":
    return Told([DETECTION.as_feedback(boxes, ()) for boxes in labels])


class Told(list):
    """Labels as clients send them, with the method that `small_loop.label` asks arrays for."""

    def tolist(self) -> list:
        return list(self)


def test_labels_that_are_boxes_measure_the_detector_and_no_accuracy_is_estimated_without_them(loop: Workspace):
    images, labels = scenes(60)
    ids = send(loop, champion(loop), images)
    before = judge(loop, 60).observation
    label(loop, ids, _labels(loop, labels))
    after = judge(loop, 60).observation
    assert (before.labelled, before.estimate, after.estimate) == (None, None, None)
    assert after.labelled.metric == "mAP@50"
    assert after.labelled.n == 60
    assert 0 <= after.labelled.accuracy.low <= after.labelled.accuracy.value <= 1


def test_labelled_images_become_a_data_version_with_their_boxes_and_one_in_five_is_held_out(loop: Workspace):
    images, labels = scenes(60, part=1)
    label(loop, send(loop, champion(loop), images), _labels(loop, labels))
    before = loop.use_case.read(loop.data_folder)
    made = from_production.add_labelled(loop, champion(loop))
    after = loop.use_case.read(loop.data_folder)
    assert made.added + made.held_out == 60
    assert made.held_out > 0
    assert len(after.images) == len(before.images) + made.added
    assert after.test.sum() == before.test.sum()
    sent = {image.tobytes(): boxes for image, boxes in zip(images, labels, strict=True)}
    new = [row for row, image in enumerate(after.images) if image.tobytes() in sent]
    assert len(new) == made.added
    for row in new:
        np.testing.assert_allclose(after.labels[row], sent[after.images[row].tobytes()], atol=0.51)


def test_boxes_that_reach_beyond_their_image_are_cut_and_never_make_the_version_invalid(loop: Workspace):
    images, labels = scenes(30, part=2)
    beyond = objects([np.concatenate([boxes, [[0, 0, 5000, 5000, 0]]]).astype(np.float32) for boxes in labels])
    label(loop, send(loop, champion(loop), images), _labels(loop, beyond))
    made = from_production.add_labelled(loop, champion(loop))
    assert made.added > 0
    assert datasets.check(loop).passed


def test_a_label_in_another_scale_is_not_used(loop: Workspace):
    images, labels = scenes(30, part=2)
    scaled = objects([boxes * np.float32([4, 4, 4, 4, 1]) for boxes in labels])
    label(loop, send(loop, champion(loop), images), _labels(loop, scaled))
    made = from_production.add_labelled(loop, champion(loop))
    assert made.refused["labelled outside their image"] > 0
    assert made.added + made.held_out + sum(made.refused.values()) == 30


def test_an_image_too_small_for_the_data_set_is_not_answered(loop: Workspace):
    with pytest.raises(DataError, match="9x40 pixels"):
        loop.use_case.decode(png(np.zeros((40, 9, 3), np.uint8)))
