"""A workspace with everything real in it: sample data under DVC, a small champion, and traffic as the server logs it."""

import hashlib
import importlib
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from mlflow_tables import with_tables
from openmlops.adapters.inference_log import Entries, Layout
from openmlops.adapters.last_champion import FOLDER, LastChampion
from openmlops.core.images.corruptions import corrupt
from openmlops.core.images.decoding import png
from openmlops.core.types import ModelRef, TrainedRef
from openmlops.operations.data import datasets, weights
from openmlops.operations.release import exporting, inference, model_card, promotion, registration, scoring, witnesses
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings, quiet_libraries

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def workspace(home: Path, **settings: str) -> Workspace:
    """Everything below `home`; `settings` as environment variables in small letters."""
    quiet_libraries()
    places = {
        "OPENMLOPS_HOME": f"{home}/state",
        "DATA_RAW_DIR": f"{home}/raw",
        "ARTIFACTS_DIR": f"{home}/artifacts",
        "MONITORING_DIR": f"{home}/monitoring",
    }
    with_tables(home / "state" / "mlflow.db")
    given = {name.upper(): value for name, value in settings.items()}
    return Workspace(Settings.load({**places, **given}, dotenv=home / ".env"))


def train(found: Workspace, seed: int = 0, steps: int = 100) -> tuple[ModelRef, TrainedRef]:
    """A version of a very small network, registered; 100 steps take 2 cpu-s."""
    use_case, splits = found.use_case, datasets.split(found, datasets.ingest(found), 0)
    rows, indices = use_case.read(found.data_folder), datasets.indices_of(found, splits)
    config = use_case.config(steps=steps, seed=seed, channels="16-32", batch_size=100, stem_stride=2, flip=False, threads=1)
    model = use_case.build(config, use_case.preprocess(rows, indices["train"]), rows, indices["train"])
    folder = found.home / "training" / f"{seed}-{steps}"
    result = use_case.fit(model, rows, indices, config, folder=folder, key="k", on_epoch=lambda metrics: None)
    run_id = found.tracking.start(found.model_name, {}, {})
    file = weights.place(found.home, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), file)
    trained = TrainedRef(
        weights=weights.named(file),
        run_id=run_id,
        splits=splits,
        config=result.config.model_dump(),
        epochs=result.epochs,
        seconds=result.seconds,
        ended_at=NOON,
    )
    evaluation = scoring.evaluate(found, trained)
    exported = exporting.export(found, trained, evaluation)
    return registration.register(found, exported, trained, evaluation), trained


def champion(found: Workspace) -> ModelRef:
    """Sample data and a first champion."""
    datasets.make_sample(found)
    model, trained = train(found)
    assert promotion.decide(found, model, trained.splits).champion == model.version
    return model


def fresh_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that no data set holds, made as the sample's are, and their labels."""
    sample = importlib.import_module("openmlops.usecases.cifar10.sample")
    draw = sample._Draw(seed)
    digits, labels = sample._digits()
    chosen = draw.permutation(len(labels))[np.arange(n) % len(labels)]
    return sample._paint(digits[chosen], draw), labels[chosen]


def send(
    found: Workspace, model: ModelRef, images: np.ndarray, at: datetime = NOON, corruption: tuple[str, int] | None = None
) -> list[str]:
    """Answer images and log them as the server does, an answer a second; the predictions' ids."""
    model_input = corrupt(images, *corruption, seed=1) if corruption else images
    folder = found.registry.fetch(model)
    predictions, features = inference.predict_with_features(
        found.use_case, inference.load_exported(found.use_case, folder), model_input
    )
    names = model_card.Description.read(folder / "model.json").classes
    first = found.inference_log.count(model.name, model.version)
    ids = [f"{model.version}-{first + row}" for row in range(len(model_input))]
    entries = Entries(
        model=model.name,
        version=model.version,
        layout=Layout(tuple(features), names),
        ids=ids,
        at=[at + timedelta(seconds=row) for row in range(len(model_input))],
        input_sha256=[keep(found, image) for image in model_input],
        features=np.stack(list(features.values()), axis=1),
        predictions=found.use_case.task.pack(predictions),
        latency_ms=[1.0] * len(model_input),
    )
    found.inference_log.write([entries])
    return ids


def keep(found: Workspace, image: np.ndarray) -> str:
    """Keep an image as the server does; its input's SHA-256."""
    content = png(image)
    sha256 = hashlib.sha256(content).hexdigest()
    found.inputs.put(content, sha256)
    return sha256


def label(found: Workspace, ids: list[str], labels: np.ndarray, at: datetime = NOON) -> None:
    """Let labels join."""
    for name, value in zip(ids, labels.tolist(), strict=True):
        found.inference_log.label(name, value, found.use_case.task.read_label, at)


def branch(found: Workspace, folder: Path, **settings: str) -> Workspace:
    """A workspace that goes on from `found` with a database, a data set and monitoring files of its own below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "openmlops.db"
    with sqlite3.connect(found.settings.database.removeprefix("sqlite:///")) as old, sqlite3.connect(database) as new:
        old.backup(new)
    shutil.copytree(found.data_folder.parent, folder / "raw", symlinks=True)
    places = {
        "OPENMLOPS_HOME": str(found.home),
        "DATABASE_URL": f"sqlite:///{database}",
        "DATA_RAW_DIR": f"{folder}/raw",
        "ARTIFACTS_DIR": f"{folder}/artifacts",
        "MONITORING_DIR": f"{folder}/monitoring",
    }
    given = {name.upper(): value for name, value in settings.items()}
    made = Workspace(Settings.load({**places, **given}, dotenv=folder / ".env"))
    _forget_other_branches(made)
    return made


def _forget_other_branches(found: Workspace) -> None:
    """Let what is known of the ledger outside of the database be of this one: branches share a home and MLflow."""
    LastChampion(found.home / FOLDER, found.model_name).forget()
    told = witnesses.testimony(found, found.model_name)
    if any(witness.hash != told.hash for witness in told.witnesses):
        witnesses.seal(found, found.model_name)
