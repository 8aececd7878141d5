"""What is wrong in a process now: told once when it begins and once when it is over, and shown by whoever asks.

What is here: parts with their problems, and the supervision of background work that reports to them. What is not: what a
problem means for requests (`serving.deployment` says whether the server is ready).
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable

from openmlops.errors import OpenMLOpsError

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 10.0

log = logging.getLogger(__name__)


class Conditions:
    """The problems of a process by part. `show` gets 1 for a part when a problem of it begins, and 0 when it is over."""

    def __init__(self, show: Callable[[str, int], None] = lambda part, value: None) -> None:
        self._show = show
        self._problems: dict[str, str] = {}
        self._alone = threading.Lock()

    def report(self, part: str, problem: str) -> None:
        """A part has a problem. Logged if it had none."""
        with self._alone:
            is_new = part not in self._problems
            self._problems[part] = problem
        if is_new:
            self._show(part, 1)
            log.error("%s: %s", part, problem)

    def clear(self, part: str) -> None:
        """A part works. Logged if it had a problem."""
        if part not in self._problems:
            return
        with self._alone:
            was_there = self._problems.pop(part, None) is not None
        if was_there:
            self._show(part, 0)
            log.info("%s: works again", part)

    def of(self, part: str) -> str | None:
        """The problem of a part; None if it has none."""
        return self._problems.get(part)

    def all(self) -> tuple[str, ...]:
        """Every problem with its part, in the order in which they began."""
        with self._alone:
            return tuple(f"{part}: {problem}" for part, problem in self._problems.items())


async def repeat(part: str, turn: Callable[[], Awaitable[object]], seconds: float, conditions: Conditions) -> None:
    """Await `turn` every `seconds` until cancelled. A turn that fails is reported and repeated, less and less often."""
    delay = FIRST_RETRY_SECONDS
    while True:
        try:
            await turn()
        except Exception as error:  # noqa: BLE001 - a background task never ends by itself
            _failed(part, error, conditions)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_RETRY_SECONDS)
        else:
            conditions.clear(part)
            delay = FIRST_RETRY_SECONDS
            await asyncio.sleep(seconds)


def thread(name: str, turn: Callable[[], bool], conditions: Conditions) -> threading.Thread:
    """A thread, not started yet, that calls `turn` until it returns False. A turn that fails is reported and repeated."""

    def run() -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                goes_on = turn()
            except Exception as error:  # noqa: BLE001 - a background thread never ends by itself
                _failed(name, error, conditions)
                time.sleep(delay)
                delay = min(2 * delay, LAST_RETRY_SECONDS)
                continue
            conditions.clear(name)
            delay = FIRST_RETRY_SECONDS
            if not goes_on:
                return

    return threading.Thread(target=run, name=name, daemon=True)


def _failed(part: str, error: Exception, conditions: Conditions) -> None:
    is_known = isinstance(error, OpenMLOpsError | OSError)
    if not is_known and conditions.of(part) is None:
        log.error("%s failed", part, exc_info=error)
    conditions.report(part, str(error) if is_known else f"{type(error).__name__}: {error}")
