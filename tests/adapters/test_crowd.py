"""Sixteen processes that write to and read from one SQLite file at once: all wait their turn, none is told of a lock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.schema import INFERENCE

PROCESSES = 16

MEMBER = """
import json, sys, time
from datetime import UTC, datetime, timedelta
import numpy as np
from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import Entries, InferenceLog, Layout
from openmlops.adapters.leases import Leases
from openmlops.adapters.ledger import Ledger
from openmlops.errors import LeaseTaken, LedgerConflict

url, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
engine = connect(url)
log, ledger, leases = InferenceLog(engine), Ledger(engine), Leases(engine)
layout, logged, appended, slowest = Layout(("x",), ("cat", "dog")), [], 0, 0.0
end = time.monotonic() + seconds
while time.monotonic() < end:
    began, now = time.monotonic(), datetime.now(UTC)
    ids = [f"{name}-{len(logged) + row}" for row in range(4)]
    answers = {"features": np.zeros((4, 1), "<f4"), "answers": [b"12345678"] * 4, "latency_ms": [1.0] * 4}
    log.write([Entries("crowd", 1, layout, ids, [now] * 4, ["0" * 64] * 4, **answers)])
    logged += ids
    log.window("crowd", 1, last=50)
    head = ledger.head("crowd")
    try:
        row = {"dataset": "", "model_sha256": "", "verdict": None, "at": now}
        ledger.append("crowd", head.sequence if head else 0, "promote", 1, name, ("a row",), **row)
        appended += 1
    except LedgerConflict:
        pass
    try:
        lease = leases.take("crowd", name, timedelta(seconds=30))
        leases.release(lease)
    except LeaseTaken:
        pass
    slowest = max(slowest, time.monotonic() - began)
print(json.dumps({"logged": len(logged), "appended": appended, "slowest": slowest}))
"""


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_no_process_of_a_crowd_fails_and_nothing_is_lost(tmp_path: Path, seconds: int) -> None:
    url = f"sqlite:///{tmp_path / 'crowd.db'}"
    commands = [[sys.executable, "-c", MEMBER, url, f"p{number}", str(seconds)] for number in range(PROCESSES)]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands]
    ends = [(member.communicate(timeout=800), member.returncode) for member in crowd]
    assert [(told[1], code) for told, code in ends] == [("", 0)] * PROCESSES
    told = [json.loads(found[0]) for found, _ in ends]
    assert all(member["logged"] for member in told)
    engine = connect(url)
    assert InferenceLog(engine).count("crowd", 1) == sum(member["logged"] for member in told)
    with engine.connect() as connection:
        assert connection.scalar(select(func.count(INFERENCE.c.id.distinct()))) == sum(member["logged"] for member in told)
    assert len(Ledger(engine).history("crowd")) == sum(member["appended"] for member in told) > 0
    print(
        f"{PROCESSES} processes, {seconds} s: {sum(m['logged'] for m in told)} entries, slowest turn",
        max(m["slowest"] for m in told),
    )
