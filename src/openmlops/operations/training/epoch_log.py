"""Epoch metrics on their way to the MLflow run: written to disk immediately, sent by a thread, logged exactly once.

An unavailable or slow MLflow neither stops nor slows the training. Not here: the run itself (`train`).
"""

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from openmlops.adapters.mlflow_values import Epoch
from openmlops.core.quality import EpochMetrics
from openmlops.errors import ServiceUnavailable
from openmlops.files import write_text

if TYPE_CHECKING:
    from openmlops.adapters.tracking import Tracking

log = logging.getLogger(__name__)

_FILE = TypeAdapter(dict[int, Epoch])


class EpochLog:
    """The epochs of the training in `folder`, including those of killed processes. Each keeps its time, so that an epoch sent
    twice is the same entry in MLflow.
    """

    def __init__(self, tracking: "Tracking", folder: Path) -> None:
        self._tracking, self._file = tracking, folder / "epochs.json"
        self._epochs = _FILE.validate_json(self._file.read_bytes()) if self._file.exists() else {}
        self._news, self._ended, self._run_id = threading.Event(), False, ""

    def reset(self) -> None:
        """Forget the epochs of an earlier training."""
        self._file.unlink(missing_ok=True)
        self._epochs = {}

    def send_to(self, run_id: str) -> None:
        """Start a thread that sends epochs to this run."""
        self._run_id = run_id
        threading.Thread(target=self._send, name="epochs", daemon=True).start()

    def add(self, metrics: EpochMetrics) -> None:
        """Record one epoch and queue it for sending; an epoch recorded earlier is kept. Raises TrainingError if it is not
        finite."""
        if metrics.epoch not in self._epochs:
            self._epochs = self._epochs | {metrics.epoch: Epoch.of(metrics, datetime.now(UTC))}
            write_text(self._file, _FILE.dump_json(self._epochs).decode())
            self._news.set()

    def end(self) -> None:
        """Stop sending."""
        self._ended = True
        self._news.set()

    def complete(self, run_id: str) -> None:
        """Send the missing epochs synchronously. Raises ServiceUnavailable."""
        self._tracking.log_epochs(run_id, self._epochs.values())

    def _send(self) -> None:
        while self._news.wait() and not self._ended:
            self._news.clear()
            try:
                self._tracking.resume(self._run_id)
                self.complete(self._run_id)
            except ServiceUnavailable:  # missing epochs are sent with the next one, or at the end
                continue
            except Exception:
                log.exception("epochs could not be sent to the run %s", self._run_id)
