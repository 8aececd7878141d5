"""A world with something of everything that a page shows: real registry, ledger, log and decisions; toy models."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

import toy_promotion as toy
from openmlops.adapters.decisions import DecisionRecord, new_id
from openmlops.adapters.inference_log import Entries, Layout
from openmlops.adapters.registry import DATASET_TAG
from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, LabelledAccuracy
from openmlops.core.monitoring.drift import ColumnShift, DriftReport
from openmlops.core.monitoring.policy import Observation
from openmlops.core.types import DatasetRef, Interval
from openmlops.files import MANIFEST, Manifest
from openmlops.operations.data import datasets
from openmlops.operations.release import promotion
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

NAME = toy.NAME
FIRST, CHAMPION, EQUAL, BAD, BEST = 1, 2, 3, 4, 5
RECORDED = {FIRST: 0.70, CHAMPION: 0.76, EQUAL: 0.76, BAD: 0.60, BEST: 0.80}
BRIGHTNESS, CONTRAST = "image.brightness", "image.contrast"
RESPONSE_FORMATS = 90


def workspace(home: Path, **settings: object) -> Workspace:
    places = {"openmlops_home": home, "data_raw_dir": home / "raw", "monitoring_dir": home / "monitoring"}
    return Workspace(Settings(use_case="toy_promotion:USE_CASE", **places, **settings))


def fresh(home: Path, **settings: object) -> Workspace:
    """A world of nothing but empty tables: made here, for Alembic is not to be used by two threads at once."""
    found = workspace(home, **settings)
    assert (found.registry.models(), found.ledger.models()) == ((), ())
    return found


def make(home: Path) -> Workspace:
    """The first champion was replaced by a better one; a worse and an equal version were not promoted."""
    found = workspace(home)
    toy.write_data(found.data_folder)
    dataset = datasets._ref(found, found.data_versions.add(found.data_folder))
    for version in RECORDED:
        register(found, version, dataset)
    splits = datasets.split(found, dataset, seed=0)
    for version in (FIRST, CHAMPION, BAD, EQUAL):
        promotion.decide(found, found.registry.version(NAME, version), splits)
    predicted(found, datetime.now(UTC))
    decide(found, "no_drift")
    return found


def register(found: Workspace, version: int, dataset: DatasetRef) -> None:
    folder = found.home / "exports" / str(version)
    folder.mkdir(parents=True)
    toy.write_model(folder / "model.onnx", version)
    Manifest.of(folder).write(folder / MANIFEST)
    run_id, score = found.tracking.start(NAME, {}, {}), RECORDED[version]
    measured = {"test_accuracy": score, "test_accuracy_low": score - 0.02, "test_accuracy_high": score + 0.02}
    found.tracking.log_metrics(run_id, measured, datetime.now(UTC))
    found.registry.register(NAME, run_id, folder, {DATASET_TAG: dataset.fingerprint})


def predicted(found: Workspace, until: datetime, n: int = RESPONSE_FORMATS) -> None:
    """Log answers of the champion, one each ten seconds until an instant, and a label for every third."""
    first, rng = found.inference_log.total(), np.random.default_rng(0)
    version = found.ledger.champion(NAME)
    ids = [f"answer-{first + row}" for row in range(n)]
    entries = Entries(
        model=NAME,
        version=version,
        layout=Layout((BRIGHTNESS, CONTRAST), tuple(map(str, range(toy.CLASSES)))),
        ids=ids,
        at=[until - timedelta(seconds=10 * (n - row)) for row in range(n)],
        input_sha256=["0" * 64] * n,
        features=rng.normal(size=(n, 2)).astype(np.float32),
        predictions=[np.full(toy.CLASSES, 0.1, "<f4").tobytes()] * n,
        latency_ms=rng.gamma(4.0, 1.0, n).tolist(),
    )
    found.inference_log.write([entries])
    for row, name in enumerate(ids[::3]):
        found.inference_log.label(name, 0 if row % 4 else 3, found.use_case.task.read_label, until)


def decide(found: Workspace, outcome: str, at: datetime | None = None) -> DecisionRecord:
    """Keep a decision about a window of the champion, with or without drift."""
    now = at or datetime.now(UTC)
    champion, moved = found.ledger.champion(NAME), outcome == "drift"
    side = "above" if moved else "not above"
    statistic = 412.5 if moved else 21.25
    columns = tuple(
        ColumnShift(name=name, reference_mean=0, window_mean=shift, shift=shift, z=40 * shift, moved=moved)
        for name, shift in ((CONTRAST, -2.5 if moved else -0.06), (BRIGHTNESS, 0.75 if moved else 0.02))
    )
    drift = DriftReport(
        outcome=outcome, reasons=(f"statistic {statistic} is {side} 64.0",), reference="r", false_alarm_rate=0.01,
        n=400, statistic=statistic, threshold=64.0, p_value=0.5, columns=columns,
    )  # fmt: skip
    estimate = AccuracyEstimate(
        accuracy=Interval(value=0.74, low=0.70, high=0.78), n=400, trustworthy=not moved, reasons=("by its confidence",)
    )
    real = 0.41 if moved else 0.75
    labelled = LabelledAccuracy(
        accuracy=Interval(value=real, low=real - 0.05, high=real + 0.05), n=200, error=0.0, covered=not moved
    )
    observation = Observation(at=now, version=champion, drift=drift, estimate=estimate, labelled=labelled)
    record = DecisionRecord(
        id=new_id(), model=NAME, version=champion, at=now, action="collect_labels" if moved else "nothing",
        reasons=("1 of the last 1 windows raised an alarm",) if moved else ("0 of the last 1 windows raised an alarm",),
        by="watch", observation=observation,
    )  # fmt: skip
    found.decisions.append(record)
    return record
