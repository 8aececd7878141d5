"""Calls that may block as long as a database does, from the event loop: requests wait only so long, the process' end never.

What is not here: the path of predictions, which has threads of its own (`batching`, `commit`, `spool`).
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from openmlops.serving.problems import unavailable

MAX_CONCURRENT = 8
"""calls that run at the same time, each with a connection of its own"""
MAX_WAITING = 64
"""most requests that wait for one; beyond, they would take the places of predictions"""

P = ParamSpec("P")
Result = TypeVar("Result")


class Calls:
    """The calls that requests make. One that nobody waits for any more keeps its place until it ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._places = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting = 0

    async def run(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """What the function returns or raises; a 503 when that is not known within `seconds`."""
        if self._waiting >= MAX_WAITING:
            raise unavailable(f"{self._waiting} requests wait for the database, which is the most at once")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._places.acquire()
                call = asyncio.ensure_future(in_daemon_thread(function, *args, **kwargs))
                call.add_done_callback(self._ended)
                return await asyncio.shield(call)
        except TimeoutError:
            raise unavailable(f"The database did not answer within {self._seconds:g} s") from None
        finally:
            self._waiting -= 1

    def _ended(self, call: asyncio.Future) -> None:
        self._places.release()
        if not call.cancelled():
            call.exception()  # told to whoever still waits; else nobody wants to know


async def in_daemon_thread(function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Run in a daemon thread: other than for asyncio's own, the process can end before it does."""
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
