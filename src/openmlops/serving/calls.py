"""Blocking database calls from the event loop, with a timeout for requests and without delaying process shutdown.

Not here: the path of predictions, which has its own threads (`batching`, `commit`, `spool`).
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from openmlops.serving.problems import unavailable

MAX_CONCURRENT = 8
"""concurrent calls, each with its own connection"""
MAX_WAITING = 64
"""most requests that wait for a call; more would displace predictions"""

P = ParamSpec("P")
Result = TypeVar("Result")


class Calls:
    """Runs the calls of requests. A call that timed out occupies its slot until it ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._places = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting = 0

    async def run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call the function in a thread. Raises what it raises, and HTTPException 503 after the timeout or on overload."""
        if self._waiting >= MAX_WAITING:
            raise unavailable(f"{self._waiting} requests are waiting for the database, which is the limit")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._places.acquire()
                call = asyncio.ensure_future(in_daemon_thread(function, *args, **kwargs))
                call.add_done_callback(self._ended)
                return await asyncio.shield(call)
        except TimeoutError:
            raise unavailable(f"The database did not respond within {self._seconds:g} s") from None
        finally:
            self._waiting -= 1

    def _ended(self, call: asyncio.Future) -> None:
        self._places.release()
        if not call.cancelled():
            call.exception()  # marks the error as retrieved; a waiting request gets it from the future


async def in_daemon_thread(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Run in a daemon thread, which, unlike asyncio's own threads, does not block process shutdown."""
    result: Future[Result] = Future()

    def run() -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
