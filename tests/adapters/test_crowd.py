"""Sixteen processes that write to and read from one SQLite file at once: all wait their turn, none is told of a lock."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from forks import start
from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.adapters.leases import Leases
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.schema import INFERENCE
from openmlops.errors import LeaseTaken, LedgerConflict

PROCESSES = 16


def member(url: str, name: str, turns: int, told: Path) -> None:
    """Write and read all that there is to write and read, so many times."""
    engine = connect(url)
    log, ledger, leases = InferenceLog(engine), Ledger(engine), Leases(engine)
    layout, logged, appended = Layout(("x",), ("cat", "dog")), 0, 0
    for _ in range(turns):
        now = datetime.now(UTC)
        ids = [f"{name}-{logged + row}" for row in range(4)]
        columns = {"features": np.zeros((4, 1), "<f4"), "predictions": [b"12345678"] * 4, "latency_ms": [1.0] * 4}
        log.write([Entries("crowd", 1, layout, ids, [now] * 4, ["0" * 64] * 4, **columns)])
        logged += len(ids)
        log.window("crowd", 1, last=50)
        head = ledger.head("crowd")
        with suppress(LedgerConflict):
            row = {"dataset": "", "model_sha256": "", "verdict": None, "at": now}
            ledger.append("crowd", head.sequence if head else 0, "promote", 1, name, ("a row",), **row)
            appended += 1
        with suppress(LeaseTaken):
            leases.release(leases.take("crowd", name, timedelta(seconds=30)))
    told.write_text(json.dumps({"logged": logged, "appended": appended}))


@pytest.mark.parametrize("turns", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_no_process_of_a_crowd_fails_and_nothing_is_lost(tmp_path: Path, turns: int) -> None:
    url = f"sqlite:///{tmp_path / 'crowd.db'}"
    places = [tmp_path / f"p{number}" for number in range(PROCESSES)]
    crowd = [start(place.with_suffix(".log"), member, url, place.name, turns, place) for place in places]
    for process in crowd:
        process.join(800)
    said = [(place.with_suffix(".log").read_text(), process.exitcode) for place, process in zip(places, crowd, strict=True)]
    assert said == [("", 0)] * PROCESSES
    told = [json.loads(place.read_text()) for place in places]
    assert [each["logged"] for each in told] == [4 * turns] * PROCESSES
    engine = connect(url)
    assert InferenceLog(engine).count("crowd", 1) == 4 * turns * PROCESSES
    with engine.connect() as connection:
        assert connection.scalar(select(func.count(INFERENCE.c.id.distinct()))) == 4 * turns * PROCESSES
    assert len(Ledger(engine).history("crowd")) == sum(each["appended"] for each in told) > 0
