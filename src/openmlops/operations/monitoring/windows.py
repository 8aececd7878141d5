"""Windows: the champion's latest predictions, or its predictions on the frozen test split, as one Parquet file.

SIMULATE_DRIFT corrupts the images before inference; no other code reads it, so the drift that follows is measured like any
other. Not here: evaluation of a window (`monitor`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openmlops.adapters.decisions import new_id
from openmlops.adapters.inference_log import Layout, Window
from openmlops.core.images.decoding import upright_size
from openmlops.core.types import Content, LedgerEntry, ModelRef, Reference
from openmlops.errors import DataError, ModelNotFound
from openmlops.files import replacing
from openmlops.images.lazy import Images, LazyImages, corrupted, digests
from openmlops.operations.data import datasets
from openmlops.operations.data.rows import rows_of
from openmlops.operations.monitoring.run_folders import WINDOW_FILE
from openmlops.operations.release import inference
from openmlops.operations.release.aliases import version_of
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace

Source = Literal["log", "test-set"]

SEQUENCE = "sequence"
"""column of the window: the prediction's number in the log"""
NO_CHAMPION = "Run `openmlops train` first; `openmlops promote` with --force takes a version that the gate refused"
GREATEST_AGE = timedelta(days=30)
"""how much older than the newest prediction of a window another may be"""
SIMULATED_CORRUPTION = ("brightness", 4)
"""kind and severity of the corruption that SIMULATE_DRIFT applies to every image (core/images/corruptions.py)"""


class WindowRef(Reference):
    """A window of `n` predictions of a version, in the file `content` as `write_parquet` writes it.

    `run` names the monitoring run, its folder and its decision. `columns` are the feature columns, `since` and `until` the
    times of the first and the last prediction, None if empty. `left_out` counts predictions that could not be repeated because
    their input is no longer stored; `outside` those of an earlier reign of the version, or older than GREATEST_AGE.
    """

    model: ModelRef
    source: Source
    simulated: bool
    content: Content | None = None
    n: int
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    left_out: int = 0
    outside: int = 0
    run: str = ""

    def folder(self, workspace: Workspace) -> Path:
        """The folder of the monitoring run on this machine."""
        return workspace.monitoring / self.run

    def local(self, workspace: Workspace) -> Path:
        """The file of the window, fetched if it is not here. Raises DataError if there is none."""
        path = self.folder(workspace) / WINDOW_FILE
        return workspace.contents.local(self.content, path) if self.content else path


def load_latest_model(workspace: Workspace) -> ModelRef:
    """The current champion by the ledger. Raises ModelNotFound if there is none."""
    name = workspace.model_name
    version = workspace.ledger.champion(name)
    if version is None:
        raise ModelNotFound(f"The model '{name}' has no champion to monitor", NO_CHAMPION)
    return version_of(workspace, name, version)


def collect_inference_data(workspace: Workspace, model: ModelRef, last: int, source: Source, now: datetime) -> WindowRef:
    """Write the window into a new folder of MONITORING_DIR: the `last` logged predictions, or as many on test images.

    Raises DataError and DataCorrupt for the test set, ModelCorrupt, and ServiceUnavailable.
    """
    simulated, outside = workspace.settings.simulate_drift, 0
    if source == "test-set":
        window, left_out = _test_window(workspace, model, last, now), 0
    else:
        window = workspace.inference_log.window(model.name, model.version, last)
        window, outside = _of_its_reign(workspace, model, window, now)
        window, left_out = _predicted_again(workspace, model, window) if simulated else (window, 0)
    run = new_id()
    path = workspace.monitoring / run / WINDOW_FILE
    _write(workspace, path, window, model)
    return WindowRef(
        model=model,
        source=source,
        simulated=simulated,
        content=workspace.contents.keep("window", path),
        n=len(window),
        columns=window.layout.columns,
        classes=window.layout.classes,
        since=min(window.at, default=None),
        until=max(window.at, default=None),
        left_out=left_out,
        outside=outside,
        run=run,
    )


def reign_of(changes: Sequence[LedgerEntry], version: int) -> datetime | None:
    """When the present reign of the champion `version` began, by the ledger's changes; None if it is the first one, to which
    all of its predictions belong."""
    before = len(changes)
    while before and changes[before - 1].version == version:
        before -= 1
    earlier = any(entry.version == version for entry in changes[:before])
    return changes[before].at if earlier and before < len(changes) else None


def _of_its_reign(workspace: Workspace, model: ModelRef, window: Window, now: datetime) -> tuple[Window, int]:
    """The predictions of the version's present reign that are not too old, and the number of the others. One that was logged
    by a clock that is ahead of `now` makes no other old."""
    if not len(window):
        return window, 0
    changes = [entry for entry in workspace.ledger.history(model.name) if entry.is_change]
    since = reign_of(changes, model.version)
    oldest = min(window.at[-1], now) - GREATEST_AGE
    oldest = max(oldest, since) if since else oldest
    kept = [row for row, at in enumerate(window.at) if at >= oldest]
    return (window, 0) if len(kept) == len(window) else (_rows_of(window, kept), len(window) - len(kept))


def _test_window(workspace: Workspace, model: ModelRef, last: int, now: datetime) -> Window:
    """Predictions on at most `last` test images, sampled with a fixed seed, with their true labels in terms of the version's
    classes; images of a class that it does not know are left out."""
    folder = workspace.registry.fetch(model)
    description = Description.read(folder / "model.json")
    splits = datasets.split(workspace, datasets.ingest(workspace), description.split_seed)
    rows = rows_of(workspace, splits.dataset)
    test = datasets.indices_of(workspace, splits)["test"]
    task = workspace.use_case.task
    drawn = np.sort(np.random.default_rng(0).permutation(test)[:last])
    named = [task.renamed(task.as_json(label), rows.names, description.classes) for label in rows.labels[drawn]]
    chosen = drawn[[label is not None for label in named]]
    window = Window(
        layout=Layout((), description.classes),
        ids=tuple(f"test-{row}" for row in chosen),
        sequences=(),
        at=(now,) * len(chosen),
        input_sha256=tuple(digest.hex() for digest in digests(rows.images[chosen])),
        features=np.zeros((len(chosen), 0), np.float32),
        predictions=(b"",) * len(chosen),
        labels=tuple(label for label in named if label is not None),
        latency_ms=np.zeros(len(chosen)),
    )
    return _predict(workspace, model, window, rows.images[chosen]) if len(chosen) else window


def _predicted_again(workspace: Workspace, model: ModelRef, window: Window) -> tuple[Window, int]:
    """New predictions of the same version on the corrupted logged inputs, and the number of inputs no longer stored."""
    sizes, kept = [], []
    for index, sha256 in enumerate(window.input_sha256):
        try:
            sizes.append(upright_size(workspace.inputs.read(sha256)))
        except DataError:  # pruned, or damaged: counted as left out
            continue
        kept.append(index)
    found, use_case = _rows_of(window, kept), workspace.use_case
    if kept:

        def content(row: int) -> bytes:
            return workspace.inputs.read(found.input_sha256[row])

        images = LazyImages.of_contents(content, np.array(sizes, np.int64), use_case.decode, use_case.frame)
        found = _predict(workspace, model, found, images)
    return found, len(window) - len(kept)


def _predict(workspace: Workspace, model: ModelRef, window: Window, images: Images) -> Window:
    """The window with predictions and features of the version's exported model on n images, corrupted if SIMULATE_DRIFT is
    set."""
    use_case = workspace.use_case
    onnx = inference.load_exported(use_case, workspace.registry.fetch(model))
    images = use_case.shown_to(images, onnx.image_shape[:2])
    if workspace.settings.simulate_drift:
        images = corrupted(images, *SIMULATED_CORRUPTION, seed=0)
    predictions, features = inference.predict_with_features(use_case, onnx, images)
    return replace(
        window,
        layout=Layout(tuple(features), window.layout.classes),
        features=np.stack(list(features.values()), axis=1),
        predictions=tuple(use_case.task.pack(predictions)),
    )


def _write(workspace: Workspace, path: Path, window: Window, model: ModelRef) -> None:
    task, classes = workspace.use_case.task, window.layout.classes
    predictions = task.columns(task.unpack(window.predictions, len(classes)), classes)
    write_parquet(path, window, {**predictions, "label": task.label_column(window.labels)}, model.version)


def _rows_of(window: Window, rows: Sequence[int]) -> Window:
    def taken(values: Sequence) -> tuple:
        return tuple(values[row] for row in rows)

    return replace(
        window,
        ids=taken(window.ids),
        sequences=taken(window.sequences),
        at=taken(window.at),
        input_sha256=taken(window.input_sha256),
        features=window.features[rows],
        predictions=taken(window.predictions),
        labels=taken(window.labels),
        latency_ms=window.latency_ms[rows],
    )


def write_parquet(path: Path, window: Window, predictions: Mapping[str, Any], version: int) -> None:
    """Write a window of a version as Parquet, atomically.

    One row per prediction: id, sequence in the log (none for test images), at, version, input_sha256, the features by name, the
    task's columns of `predictions` and labels, latency_ms.
    """
    import pyarrow.parquet

    with replacing(path) as beside:
        pyarrow.parquet.write_table(_table(window, predictions, version), beside)


def _table(window: Window, predictions: Mapping[str, Any], version: int):  # type: ignore[no-untyped-def]  # pyarrow.Table
    import pyarrow

    return pyarrow.table(
        {
            "id": pyarrow.array(window.ids, pyarrow.string()),
            SEQUENCE: pyarrow.array(window.sequences or [None] * len(window), pyarrow.int64()),
            "at": pyarrow.array(window.at, pyarrow.timestamp("us", tz="UTC")),
            "version": np.full(len(window), version, np.int64),
            "input_sha256": pyarrow.array(window.input_sha256, pyarrow.string()),
            **window.columns(),
            **predictions,
            "latency_ms": window.latency_ms,
        }
    )
