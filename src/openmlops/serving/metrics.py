"""Prometheus metrics of the server. Several workers aggregate through files in one folder (`share`)."""

import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Metrics:
    """The metrics of one process; created in `lifespan` and passed down."""

    registry: CollectorRegistry
    folder: Path | None
    requests: Counter
    predictions: Counter
    labels: Counter
    latency: Histogram
    commit: Histogram
    batch: Histogram
    in_flight: Gauge
    serving: Gauge
    champion: Gauge
    swaps: Counter
    load_failures: Counter
    inputs: Gauge
    spooled: Gauge
    diverting: Gauge
    problems: Gauge

    @classmethod
    def make(cls, folder: Path | None = None) -> "Metrics":
        """New metrics in their own registry; `folder` as given to `share`, None for a single worker."""
        own = CollectorRegistry()
        return cls(
            registry=own,
            folder=folder,
            requests=Counter("openmlops_requests", "HTTP requests completed", ["method", "status"], registry=own),
            predictions=Counter("openmlops_predictions", "Predictions returned and logged", ["version"], registry=own),
            labels=Counter("openmlops_labels", "Labels recorded for predictions", registry=own),
            latency=Histogram(
                "openmlops_request_seconds", "Latency of prediction requests in seconds", buckets=SECONDS, registry=own
            ),
            commit=Histogram(
                "openmlops_log_commit_seconds",
                "Time to commit a group of log entries in seconds",
                buckets=SECONDS,
                registry=own,
            ),
            batch=Histogram("openmlops_batch_images", "Images per inference batch", buckets=SIZES, registry=own),
            in_flight=Gauge("openmlops_in_flight", "Requests in progress", multiprocess_mode="livesum", registry=own),
            serving=_newest("openmlops_serving_version", "Model version in service", own),
            champion=_newest("openmlops_champion_version", "Champion version in the ledger", own),
            swaps=Counter("openmlops_swaps", "Model versions put into service", registry=own),
            load_failures=Counter(
                "openmlops_load_failures", "Model versions rejected because they could not be loaded or verified", registry=own
            ),
            inputs=_newest("openmlops_inputs_bytes", "Size of the stored inputs in bytes at the last pruning", own),
            spooled=_newest(
                "openmlops_spooled_entries", "Logged predictions in the local spool, waiting for the database", own
            ),
            diverting=Gauge(
                "openmlops_log_diverted",
                "1 while a worker logs to the local spool instead of the database",
                multiprocess_mode="livemax",
                registry=own,
            ),
            problems=Gauge(
                "openmlops_problem",
                "1 while a part of a worker has a problem; the log and /health/ready say which",
                ["part"],
                multiprocess_mode="livemax",
                registry=own,
            ),
        )

    def exposition(self) -> bytes:
        """The metrics of all workers in Prometheus' text format."""
        return generate_latest(self._together())

    def failed(self) -> int:
        """Number of 5xx responses of all workers."""
        samples = [sample for family in self._together().collect() for sample in family.samples]
        counted = [s for s in samples if s.name == "openmlops_requests_total" and s.labels["status"].startswith("5")]
        return int(sum(sample.value for sample in counted))

    def _together(self) -> CollectorRegistry:
        if self.folder is None:
            return self.registry
        together = CollectorRegistry()
        MultiProcessCollector(together, path=str(self.folder))
        return together


def _newest(name: str, about: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, about, registry=registry, multiprocess_mode="mostrecent")


def share(folder: Path) -> None:
    """Make worker processes started from now on aggregate their metrics in `folder`, which is emptied first."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def forget_worker(pid: int, folder: Path) -> None:
    """Take a worker that ended out of the gauges in `folder`, such as requests in progress. What it counted stays."""
    mark_process_dead(pid, str(folder))
