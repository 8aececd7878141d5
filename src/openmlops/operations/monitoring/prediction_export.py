"""The predictions of a version as a file for other tools: Parquet or CSV, in the layout of docs/predictions.md.

A log of any size is written in parts. Not here: the layout's columns (`frames.table`).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from openmlops.adapters.inference_log import Layout
from openmlops.core.types import Value
from openmlops.errors import DataError, PredictionNotFound
from openmlops.files import replacing
from openmlops.operations.monitoring import frames
from openmlops.operations.release.aliases import full_spec, version_named
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

ROWS = 5_000
"""predictions in memory; a row group of the Parquet file"""
FORMATS = (".parquet", ".csv")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""with which a cell begins that a spreadsheet would compute"""


class Exported(Value):
    """What was written: the object that `openmlops predictions export --json` prints."""

    file: str
    model: str
    version: int
    rows: int
    left_out: int = 0
    """predictions with other classes or features, from before the use case was changed"""


def export(
    workspace: Workspace,
    spec: str,
    file: Path,
    last: int | None = None,
    features: bool = True,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Exported:
    """Write the predictions of a version to `file`, oldest first, and replace what is there. `last`: only so many latest ones.

    Raises DataError for another suffix, PredictionNotFound if the version has none, ModelNotFound.
    """
    if file.suffix.lower() not in FORMATS:
        raise DataError(f"'{file}' is no file of a known format", "End its name with .parquet or .csv")
    name, version = version_named(workspace, full_spec(spec))
    log = workspace.inference_log
    layouts = log.layouts(name, version)
    if not layouts:
        raise PredictionNotFound(f"The log has no prediction of {name}/{version}", "List the versions: `openmlops models`")
    stretch = log.stretch(name, version, last) if last else None
    after = stretch[0] - 1 if stretch else 0
    pages = log.pages(name, version, layouts[-1], ROWS, after)
    written = 0

    def tables() -> Iterator["pd.DataFrame"]:
        nonlocal written
        for window in pages:
            yield frames.table(workspace, version, window, features)
            written += len(window)
            on_rows(written)

    with replacing(file) as beside:
        if file.suffix.lower() == ".csv":
            _write_csv(beside, tables())
        else:
            _write_parquet(beside, tables(), name, workspace.use_case.task.kind, layouts[-1])
    others = log.count(name, version) - written if len(layouts) > 1 and not last else 0
    return Exported(file=str(file), model=name, version=version, rows=written, left_out=others)


def _write_csv(path: Path, tables: Iterator["pd.DataFrame"]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        for number, table in enumerate(tables):
            table = table.rename(columns=_as_text)
            for column in table.select_dtypes(["object", "string"]):
                table[column] = table[column].map(_as_text)
            table.to_csv(stream, index=False, header=number == 0, date_format="%Y-%m-%dT%H:%M:%S.%fZ")


def _as_text(cell: object) -> object:
    """A name that a spreadsheet would compute, behind an apostrophe, which makes it text there."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


def _write_parquet(path: Path, tables: Iterator["pd.DataFrame"], model: str, task: str, layout: Layout) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"openmlops": json.dumps({"model": model, "task": task, "classes": layout.classes})}
    writer: pq.ParquetWriter | None = None
    try:
        for table in tables:
            typed = table.astype({"label": "Int64"} if task == "classification" else {"label": "string"})
            if writer is None:
                schema = pa.Schema.from_pandas(typed, preserve_index=False)
                writer = pq.ParquetWriter(path, schema.with_metadata({**(schema.metadata or {}), **about}))
            writer.write_table(pa.Table.from_pandas(typed, schema=writer.schema, preserve_index=False))
    finally:
        if writer is not None:
            writer.close()
