"""What the workers of a server count together."""

import multiprocessing
from pathlib import Path

import pytest

from openmlops.serving.metrics import Metrics, forget_worker, share


def _work(folder: Path, value: int) -> None:
    metrics = Metrics.make(folder)
    metrics.in_flight.set(value)
    metrics.diverting.set(1)
    metrics.labels.inc(value)


def _killed_worker(folder: Path, value: int) -> int:
    """The process id of a worker that has counted, and ended without putting anything back."""
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(folder, value))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert process.pid is not None
    return process.pid


def test_a_dead_worker_leaves_the_gauges_and_stays_in_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    share(tmp_path)
    first, second = _killed_worker(tmp_path, 21), _killed_worker(tmp_path, 4)
    here = Metrics.make(tmp_path)
    assert "openmlops_in_flight 25.0" in here.exposition().decode()
    forget_worker(first, tmp_path)
    assert "openmlops_in_flight 4.0" in here.exposition().decode()
    forget_worker(second, tmp_path)
    text = here.exposition().decode()
    assert "openmlops_in_flight" not in text or "openmlops_in_flight 0.0" in text
    assert "openmlops_log_diverted 1.0" not in text
    assert "openmlops_labels_total 25.0" in text
