"""A training's epochs on their way to its MLflow run: noted on disk at once, sent by a thread, each there once in the end.

MLflow may be away or slow meanwhile: that neither stops nor slows the training. What is not here: the run (`training`).
"""

import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from openmlops.adapters.tracking import Epoch, Tracking
from openmlops.core.quality import EpochMetrics
from openmlops.errors import ServiceUnavailable
from openmlops.files import write_text

_FILE = TypeAdapter(dict[int, Epoch])


class EpochLog:
    """The epochs of the training in `folder`, those of killed processes too. A time is noted with each, so that an epoch
    that is sent again after an unknown answer is the same entry.
    """

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        self._tracking, self._file = tracking, folder / "epochs.json"
        self._epochs = _FILE.validate_json(self._file.read_bytes()) if self._file.exists() else {}
        self._news, self._ended, self._run_id = threading.Event(), False, ""

    def reset(self) -> None:
        """Forget the epochs of an earlier training."""
        self._file.unlink(missing_ok=True)
        self._epochs = {}

    def send_to(self, run_id: str) -> None:
        """From now on, send epochs to this run."""
        self._run_id = run_id
        threading.Thread(target=self._send, name="epochs", daemon=True).start()

    def add(self, metrics: EpochMetrics) -> None:
        """Note one epoch, and have it sent; one that was noted stays as it is. Raises TrainingError if it is not finite."""
        if metrics.epoch not in self._epochs:
            self._epochs = self._epochs | {metrics.epoch: Epoch.of(metrics, datetime.now(UTC))}
            write_text(self._file, _FILE.dump_json(self._epochs).decode())
            self._news.set()

    def end(self) -> None:
        """Send no more."""
        self._ended = True
        self._news.set()

    def complete(self, run_id: str) -> None:
        """Send what the run lacks, here and now. Raises ServiceUnavailable."""
        self._tracking.log_epochs(run_id, self._epochs.values())

    def _send(self) -> None:
        while self._news.wait() and not self._ended:
            self._news.clear()
            with suppress(ServiceUnavailable):  # what is missing is sent with the next epoch, or at the end
                self._tracking.resume(self._run_id)
                self.complete(self._run_id)
