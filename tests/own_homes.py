"""Steps of the pipelines, each in an empty home of its own, as on machines that share settings and servers and no disk."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from openmlops.core.types import ExportRef, ModelRef, Value
from openmlops.operations.data import datasets
from openmlops.operations.data import rows as opened
from openmlops.operations.monitoring import monitor, windows
from openmlops.operations.release import exporting, promotion, registration, scoring
from openmlops.operations.training import train as training
from openmlops.operations.workspace import Workspace

V = TypeVar("V", bound=Value)
CONFIG = {"epochs": 2, "width": 4, "batch_size": 20, "threads": 1}


class OwnHomes:
    """`opened(home, data)` opens the workspace of an empty home. The data folder of the first step of a training has the two
    files of `record`, as a checkout of a project has; all others are empty. What a step leaves is moved away when it has ended.
    """

    def __init__(self, place: Path, open_: Callable[[Path, Path], Workspace], record: dict[str, bytes]) -> None:
        self.place, self.open, self.record, self.steps = place, open_, record, 0

    @contextmanager
    def step(self, *, is_first: bool = False) -> Iterator[Workspace]:
        home = self.place / f"step-{self.steps}"
        self.steps += 1
        (home / "raw").mkdir(parents=True)
        for name, content in self.record.items() if is_first else ():
            (home / "raw" / name).write_bytes(content)
        before = os.getcwd()
        os.chdir(home)
        opened._opened.clear()
        try:
            yield self.open(home / "state", home / "raw")
        finally:
            os.chdir(before)
            shutil.rmtree(home)

    def handed(self, value: V) -> V:
        """What the next step gets of a value: its JSON, in which no place may be."""
        text = value.model_dump_json()
        assert str(self.place) not in text
        return type(value).model_validate_json(text)


def train(homes: OwnHomes, config: dict[str, Any] = CONFIG) -> tuple[ExportRef, ModelRef]:
    """The steps of the training pipeline."""
    with homes.step(is_first=True) as found:
        dataset = homes.handed(datasets.ingest(found))
    with homes.step() as found:
        datasets.upload(found, dataset)
    with homes.step() as found:
        report = homes.handed(datasets.validate(found, dataset))
    with homes.step() as found:
        splits = homes.handed(datasets.split(found, report.dataset, 0))
    with homes.step() as found:
        preprocessing = homes.handed(training.preprocess(found, splits))
    with homes.step() as found:
        trained = homes.handed(training.train(found, splits, preprocessing, config))
    with homes.step() as found:
        evaluation = homes.handed(scoring.evaluate(found, trained))
    with homes.step() as found:
        exported = homes.handed(exporting.export(found, trained, evaluation))
    with homes.step() as found:
        model = homes.handed(registration.register(found, exported, trained, evaluation))
    with homes.step() as found:
        promotion.decide(found, model, splits)
    return exported, model


def watch(homes: OwnHomes, report: Callable[[Workspace, windows.WindowRef], Any], now: Any) -> monitor.MonitoringOutcome:
    """The steps of the monitoring pipeline; `report` stands for the one that draws Evidently's page."""
    with homes.step() as found:
        model = homes.handed(windows.load_latest_model(found))
    with homes.step() as found:
        window = homes.handed(windows.collect_inference_data(found, model, 40, "log", now))
    with homes.step() as found:
        drawn = homes.handed(report(found, window))
    with homes.step() as found:
        decided = homes.handed(monitor.trigger_decision(found, window, drawn, now, "test", window.run))
    with homes.step() as found:
        outcome = monitor.store_monitoring_artifacts(found, window, drawn, decided)
        assert all(Path(file).is_file() for file in outcome.files)
        json.loads((found.monitoring / "latest" / "monitoring.json").read_text())
    return outcome
