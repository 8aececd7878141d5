"""The log of a server with a remote database: entries go to a local spool during an outage and are moved afterwards.

Here: the choice between central log and spool, and the one thread per process that writes to the central log and moves spooled
entries, oldest first. Not here: the tables (`adapters.inference_log`), the grouping (`commit`).

The spool is an SQLite database shared by all workers of a home folder, as durable as an embedded log. It survives a kill: the
next server of the home folder moves its entries.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prometheus_client import Gauge

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import Entries, InferenceLog, ReadLabel
from openmlops.errors import OpenMLOpsError, ServiceUnavailable
from openmlops.web.conditions import Conditions, thread

MOVE_BATCH = 1000
"""most entries per moving transaction"""

log = logging.getLogger(__name__)


class SpooledLog:
    """Has the interface of an `InferenceLog`, but waits for the central log for at most `divert_seconds`.

    After a failure all entries go to the spool, until the spooled entries have been moved within that time.
    """

    def __init__(
        self,
        central: InferenceLog,
        folder: Path,
        divert_seconds: float,
        poll_seconds: float,
        gauge: Gauge,
        conditions: Conditions,
    ) -> None:
        self._central = central
        self._spool = InferenceLog(connect(f"sqlite:///{folder / 'spool.db'}", migrate=True))
        self._only_one = FileLock(folder / "moving.lock", timeout=0)
        self._divert_seconds = divert_seconds
        self._poll_seconds = poll_seconds
        self._gauge = gauge
        self._attempts: queue.SimpleQueue[tuple[Future[None], Callable[[], None]] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = thread("central log", self._next, conditions)
        self._look_at = 0.0
        self.problem: str | None = None
        """why entries go to the spool; None while they go to the central log"""
        if self.waiting():
            self._divert("Entries of an earlier process are waiting in the spool")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; if the database blocks it, leave it to process exit."""
        self._stopping.set()
        self._attempts.put(None)
        self._thread.join(self._divert_seconds)

    def write(self, groups: Sequence[Entries]) -> None:
        """Commit entries to the central log, or to the spool. Raises ServiceUnavailable if both fail."""
        if self.problem is not None:
            self._spool.write(groups)
        else:
            self._end(self._submit(partial(self._central.write, groups)), groups)

    def withdraw(self, ids: Sequence[str]) -> None:
        """Delete entries whose clients got no answer, from the spool and, after any attempt under way, from the central log.

        Raises ServiceUnavailable.
        """
        if self.problem is not None:
            raise ServiceUnavailable(self.problem, "Wait until entries go to the database again")
        try:
            self._submit(partial(self._withdraw, ids)).result(self._divert_seconds)
        except TimeoutError as error:
            problem = f"The database did not delete entries within {self._divert_seconds:g} s"
            raise ServiceUnavailable(problem, "Wait until it responds") from error
        except Timeout as error:
            raise ServiceUnavailable("Another worker moves spooled entries", "Wait until it has done so") from error

    def require_room(self) -> None:
        """Raise DiskFull if the disk of the spool is full while entries go there."""
        if self.problem is not None:
            self._spool.require_room()

    def probe(self) -> None:
        """Whether entries could be written: to the spool while they go there. Raises ServiceUnavailable."""
        self._spool.probe()

    def label(self, prediction: str, reported: Any, read: ReadLabel, at: datetime) -> bool:
        """As `InferenceLog.label`; also raises ServiceUnavailable while the prediction is in the spool."""
        if self._spool.holds(prediction):  # checked first: an entry leaves the spool only after it was moved
            problem = f"The prediction '{prediction}' is still in the local spool, waiting for the database"
            raise ServiceUnavailable(problem, "Send the label again later")
        return self._central.label(prediction, reported, read, at)

    def waiting(self) -> int:
        """Number of entries in the spool, including those of other workers."""
        return self._spool.total()

    def _end(self, attempt: Future[None], groups: Sequence[Entries]) -> None:
        """Wait for an attempt, else spool its entries. An abandoned attempt may still commit: moving checks for that."""
        try:
            attempt.result(self._divert_seconds)
        except TimeoutError:
            attempt.cancel()
            self._divert(f"The database did not accept entries within {self._divert_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - no database error may stop predictions
            self._divert(_error_text(error))
        else:
            return
        self._spool.write(groups)

    def _divert(self, problem: str) -> None:
        log.warning("logging predictions to the local spool: %s", problem)
        self.problem = problem
        self._gauge.set(1)

    def _return(self) -> None:
        log.info("logging predictions to the database again")
        self.problem = None
        self._gauge.set(0)

    def _submit(self, work: Callable[[], None]) -> Future[None]:
        attempt: Future[None] = Future()
        self._attempts.put((attempt, work))
        return attempt

    # In the thread, the only writer to the central log: nothing is moved during an attempt

    def _next(self) -> bool:
        self._attempt(max(0.0, self._look_at - time.monotonic()))
        if time.monotonic() >= self._look_at and not self._stopping.is_set():
            self._look_at = time.monotonic() + (0 if self._move() else self._poll_seconds)
        return not self._stopping.is_set()

    def _attempt(self, seconds: float) -> None:
        """Do the next submitted work, if any arrives within `seconds`."""
        try:
            handed = self._attempts.get(timeout=seconds)
        except queue.Empty:
            return
        if handed is None or not handed[0].set_running_or_notify_cancel():
            return
        attempt, work = handed
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised in the caller that waits for the attempt
            attempt.set_exception(error)
        else:
            attempt.set_result(None)

    def _withdraw(self, ids: Sequence[str]) -> None:
        with self._only_one:
            self._spool.withdraw(ids)
            self._central.withdraw(ids)

    def _move(self) -> bool:
        """Move the oldest spooled entries; returns whether more can be moved immediately."""
        try:
            if self.problem is None and not self.waiting():
                return False
            with self._only_one:
                return self._move_oldest()
        except Timeout:
            return False  # another worker moves them
        except Exception as error:  # noqa: BLE001 - retried, and reported
            self._divert_again(_error_text(error))
            return False

    def _move_oldest(self) -> bool:
        begun = time.monotonic()
        entries = self._spool.oldest(MOVE_BATCH)
        self._central.write_missing(entries)
        self._spool.remove(entries)
        more = sum(len(group.ids) for group in entries) == MOVE_BATCH
        if self.problem is not None and not more and time.monotonic() - begun < self._divert_seconds:
            self._return()
        return more

    def _divert_again(self, problem: str) -> None:
        if problem != self.problem:
            self._divert(problem)


def _error_text(error: Exception) -> str:
    if not isinstance(error, OpenMLOpsError):
        log.error("unexpected failure of the central log", exc_info=error)
    return str(error) or type(error).__name__
