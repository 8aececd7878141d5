"""The log of a server whose database is elsewhere: there while it answers, in a local file while it does not, then moved there.

What is here: who takes an entry, and the one thread of a process that writes to the central log: it tries what is handed to it,
and moves what waits in the spool, oldest first. What is not: the tables (`adapters.inference_log`), the grouping (`commit`).

The spool is an SQLite database that all workers on this home share, as durable as an embedded log is. What it holds outlives a
kill: the next server on this home moves it.
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

MOVE_BATCH = 1000
"""most entries that are moved in one transaction"""

log = logging.getLogger(__name__)


class SpooledLog:
    """Takes entries and labels as an `InferenceLog` does, without waiting for the central one longer than `divert_seconds`.

    After one failure everything goes to the spool, until its entries have been moved and moving them went as fast as that.
    """

    def __init__(self, central: InferenceLog, folder: Path, divert_seconds: float, poll_seconds: float, gauge: Gauge) -> None:
        self._central = central
        self._spool = InferenceLog(connect(f"sqlite:///{folder / 'spool.db'}"))
        self._only_one = FileLock(folder / "moving.lock", timeout=0)
        self._divert_seconds = divert_seconds
        self._poll_seconds = poll_seconds
        self._gauge = gauge
        self._attempts: queue.SimpleQueue[tuple[Future[None], Sequence[Entries]] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="central-log", daemon=True)
        self.problem: str | None = None
        """why entries go to the spool; None while they do not"""
        if self.waiting():
            self._divert("Entries of an earlier process wait in the spool")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, or leave it to the end of the process if the database does not let go of it in time."""
        self._stopping.set()
        self._attempts.put(None)
        self._thread.join(self._divert_seconds)

    def begin(self, groups: Sequence[Entries]) -> Callable[[], None]:
        """Begin to commit entries in the central log. What is returned waits for that, or commits them in the spool, and raises
        ServiceUnavailable if neither can be."""
        if self.problem is not None:
            return partial(self._spool.write, groups)
        attempt: Future[None] = Future()
        self._attempts.put((attempt, groups))
        return partial(self._end, attempt, groups)

    def label(self, prediction: str, reported: Any, read: ReadLabel, at: datetime) -> bool:
        """As `InferenceLog.label`; raises ServiceUnavailable too while the prediction waits in the spool."""
        if self._spool.holds(prediction):  # asked first: an entry leaves the spool only when it has arrived
            problem = f"The prediction '{prediction}' still waits on this machine for the database"
            raise ServiceUnavailable(problem, "Send the label again later")
        return self._central.label(prediction, reported, read, at)

    def waiting(self) -> int:
        """How many entries are in the spool, those of other workers included."""
        return self._spool.total()

    def _end(self, attempt: Future[None], groups: Sequence[Entries]) -> None:
        """What is given up here may yet arrive there: that is asked before it is moved."""
        try:
            attempt.result(self._divert_seconds)
        except TimeoutError:
            attempt.cancel()
            self._divert(f"The database did not take entries within {self._divert_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, it must not stop the answers
            self._divert(_error_text(error))
        else:
            return
        self._spool.write(groups)

    def _divert(self, problem: str) -> None:
        log.warning("predictions are logged in the local spool: %s", problem)
        self.problem = problem
        self._gauge.set(1)

    def _return(self) -> None:
        log.info("predictions are logged in the database again")
        self.problem = None
        self._gauge.set(0)

    # In the thread, the only one that writes to the central log: nothing is moved while an attempt is under way

    def _run(self) -> None:
        look_at = time.monotonic()
        while not self._stopping.is_set():
            self._attempt(max(0.0, look_at - time.monotonic()))
            if time.monotonic() >= look_at and not self._stopping.is_set():
                look_at = time.monotonic() + (0 if self._move() else self._poll_seconds)

    def _attempt(self, seconds: float) -> None:
        """Try what is handed over within `seconds`, if anything is."""
        try:
            handed = self._attempts.get(timeout=seconds)
        except queue.Empty:
            return
        if handed is None or not handed[0].set_running_or_notify_cancel():
            return
        attempt, groups = handed
        try:
            self._central.write(groups)
        except Exception as error:  # noqa: BLE001 - whoever waits for the attempt is told
            attempt.set_exception(error)
        else:
            attempt.set_result(None)

    def _move(self) -> bool:
        """Move the oldest entries, if any wait or the database was away; whether there are more that can be moved at once."""
        try:
            if self.problem is None and not self.waiting():
                return False
            with self._only_one:
                return self._move_oldest()
        except Timeout:
            return False  # another worker moves them
        except Exception as error:  # noqa: BLE001 - tried again, and told
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
        log.error("the central log failed in a way that nobody foresaw", exc_info=error)
    return str(error) or type(error).__name__
