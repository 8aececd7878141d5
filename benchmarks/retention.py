"""What a year of predictions takes in SQLite, with and without retention, and how long its readers take. Prints Markdown.

ROWS predictions of the last year are written directly into a new database, evenly over time, with the features and the answer
of the default CIFAR-10 network (145 and 10 numbers) and random ids, as a server writes them: the champion changes every month,
one prediction in a thousand has a label that was trained on. Then the readers are timed, RETENTION_PREDICTIONS_DAYS is
applied, and they are timed again. A first reading of each comes from the disk, the median is of the `repeat` that follow.

What is not measured: writing by a server (benchmarks/serving.py), PostgreSQL and MySQL.

DVC, MLflow and the files of versions are not part of it either.

    python benchmarks/retention.py [--rows 200000] [--days 90] [--folder FOLDER]
"""

import argparse
import os
import platform
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from openmlops.adapters.inference_log import Layout
from openmlops.console import charts, traffic
from openmlops.console.model_state import read
from openmlops.core.types import Verdict
from openmlops.operations.labelling import queue
from openmlops.operations.monitoring import watch
from openmlops.operations.release import listing
from openmlops.operations.retention.prune import prune
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

MODEL, FEATURES, CLASSES, VERSIONS = "cifar10_cnn", 145, 10, 12
YEAR = timedelta(days=365)
CHUNK = 50_000
LABELLED_EVERY = 1000


def fill(workspace: Workspace, rows: int, now: datetime) -> None:
    """The ledger, and `rows` predictions with their labels, in transactions of CHUNK rows."""
    names = tuple(f"embedding.{number:03d}" for number in range(FEATURES)), tuple("abcdefghij")
    layout = Layout(*names)
    verdict = Verdict(outcome="promote", reasons=("made",), challenger=1, champion=None)
    for version in range(1, VERSIONS + 1):
        workspace.ledger.append(
            MODEL, version - 1, "promote", version, "benchmark", ("made",), "d" * 64, "m" * 64, verdict,
            now - YEAR + (version - 1) * YEAR / VERSIONS,
        )  # fmt: skip
    workspace.inference_log._ensure(layout)
    with sqlite3.connect(workspace.settings.database.removeprefix("sqlite:///"), isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -1000000")
        for start in range(0, rows, CHUNK):
            connection.execute("BEGIN")
            made = list(_rows(start, min(CHUNK, rows - start), rows, layout.id, now))
            connection.executemany("INSERT INTO inference VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", made)
            some = [(row[1], row[2]) for row in made[::LABELLED_EVERY]]
            connection.executemany("INSERT INTO label VALUES (?, '3', ?)", [(name, at) for name, at in some])
            connection.executemany("INSERT INTO label_use VALUES (?, 'd', ?)", some)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rows(start: int, n: int, of: int, layout: str, now: datetime) -> Iterator[tuple[Any, ...]]:
    rng = np.random.default_rng(start)
    numbers = rng.random((n, FEATURES), np.float32)
    answers, latency = rng.random((n, CLASSES), np.float32), rng.lognormal(1.0, 0.5, n)
    first = now - YEAR
    for row in range(n):
        share = (start + row + 0.5) / of
        at = (first + share * YEAR).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        version = 1 + int(share * VERSIONS)
        name, sha256 = str(uuid.UUID(bytes=rng.bytes(16), version=4)), rng.bytes(32).hex()
        yield (
            start + row + 1, name, at, MODEL, version, sha256, layout, numbers[row].tobytes(), answers[row].tobytes(),
            float(latency[row]),
        )  # fmt: skip


def readers(workspace: Workspace, now: datetime) -> dict[str, Callable[[], object]]:
    """What reads the log, by name."""
    log, until = workspace.inference_log, now - timedelta(days=2)
    state = watch.TriggerState(at=now, version=VERSIONS, predictions=0, labels=0, newest=log.newest(MODEL, VERSIONS))

    def latest() -> object:
        bins = traffic.binned(workspace.activity.latest(MODEL, traffic.LATEST))
        return charts.predictions(bins), charts.latency(bins)

    def look() -> object:
        new = log.count_after(MODEL, VERSIONS, state.newest)
        return log.newest(MODEL, VERSIONS), new, workspace.labelled_inputs.count_new(MODEL)

    return {
        "`monitor`: the window of 500": lambda: log.window(MODEL, VERSIONS, 500),
        "`watch`: a look at the triggers": look,
        "`watch`: all predictions of the champion, counted once at its start": lambda: log.count(MODEL, VERSIONS),
        "console: has anything changed?": lambda: workspace.activity.mark(MODEL),
        "console: traffic and latency": latest,
        "console: ledger, decisions, label request": lambda: (read(workspace, MODEL), queue.current_request(workspace, MODEL)),
        "console: a window of two days ago": lambda: log.window(MODEL, VERSIONS, 500, until),
        "`history`": lambda: listing.history(workspace, MODEL),
    }


def timed(work: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Milliseconds of the first call, and the median of the others."""
    taken = []
    for _ in range(1 + repeat):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return taken[0], median(taken[1:])


def pages(workspace: Workspace) -> tuple[int, int]:
    """Bytes of the database file, and those of them that are in use."""
    with sqlite3.connect(workspace.settings.database.removeprefix("sqlite:///")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size, free, page = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return size * page, (size - free) * page


def main(rows: int, days: float, folder: Path, repeat: int) -> None:
    """Fill, time, prune, time."""
    now = datetime.now(UTC)
    places = {"OPENMLOPS_HOME": str(folder), "RETENTION_PREDICTIONS_DAYS": str(days), "DATA_RAW_DIR": str(folder / "raw")}
    workspace = Workspace(Settings.load(places, dotenv=folder / ".env"))
    began = time.perf_counter()
    fill(workspace, rows, now)
    filled = time.perf_counter() - began
    before, _ = pages(workspace)
    print(f"{platform.machine()}, {os.cpu_count()} cores, SQLite {sqlite3.sqlite_version}; {rows:,} predictions of a year,")
    print(f"{before / rows:.0f} bytes each, made in {filled:.0f} s.\n", flush=True)
    slow = {name: timed(work, repeat) for name, work in readers(workspace, now).items()}
    print("| | first | median |\n|---|---|---|")
    for name, (first, usual) in slow.items():
        print(f"| {name} | {first:.1f} ms | {usual:.1f} ms |", flush=True)
    began, cpu = time.perf_counter(), time.process_time()
    deleted = prune(workspace, now).pruned[0].deleted
    pruned, worked = time.perf_counter() - began, time.process_time() - cpu
    after, used = pages(workspace)
    fast = {name: timed(work, repeat) for name, work in readers(workspace, now).items()}
    a_year = 10 * YEAR.total_seconds() / rows / 1e9
    print(f"\nPruning deleted {deleted:,} of them in {pruned:.0f} s with its pauses ({worked:.0f} cpu-s).\n")
    print("| | all | with retention |\n|---|---|---|")
    print(f"| bytes in use | {before / 1e9:.2f} GB | {used / 1e9:.2f} GB |")
    print(f"| a year at ten a second, by proportion | {before * a_year:.0f} GB | {used * a_year:.0f} GB |")
    for name, (_, usual) in slow.items():
        print(f"| {name} | {usual:.1f} ms | {fast[name][1]:.1f} ms |")
    hours = workspace.inference_hours
    read_ = timed(lambda: charts.earlier(traffic.daily(hours.hours(MODEL))), repeat)[1]
    print(f"| console: earlier traffic, from {len(hours.hours(MODEL)):,} totals | | {read_:.1f} ms |")
    print(f"\nThe file keeps its {after / 1e9:.2f} GB; free pages are used again.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--days", type=float, default=90.0)
    parser.add_argument("--folder", type=Path, help="where the database is made; default a temporary folder")
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        main(given.rows, given.days, Path(scratch), given.repeat)
