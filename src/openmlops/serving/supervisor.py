"""Keeps a server of one process up: what aborts it (a defect of a decoder or of ONNX Runtime) hurts who was in progress.

The parent has imported what the server needs and holds the listening socket; the server is its fork. If that dies of a signal,
the next fork takes over at once, and connections that come in between wait for it. With several workers, uvicorn's supervisor
does the same (`run.Workers`).
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

QUICK_SECONDS = 5.0
"""a server that dies sooner after its start, and again, is started less and less often"""
LONGEST_PAUSE = 30.0
_PR_SET_PDEATHSIG = 1
_STOPPING = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


def supervised(serve: Callable[[], None]) -> None:
    """Call `serve` in a fork of this process, again whenever that dies of a signal. Returns in the fork when `serve` has
    returned there; ends this process with the fork's exit code when it has ended by itself or was stopped.

    Where a fork cannot be made to end with its parent, which only Linux can, `serve` is called in this process.
    """
    if sys.platform != "linux":
        return serve()
    quick = 0
    while True:
        begun, parent = time.monotonic(), os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)  # until they can be passed on
        child = os.fork()
        if child == 0:
            _end_with(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
            return serve()
        code, stopped = _wait(child)
        if code >= 0 or stopped:
            raise SystemExit(max(code, 0))
        log.error("the server process died of %s; it is replaced", signal.Signals(-code).name)
        quick = quick + 1 if time.monotonic() - begun < QUICK_SECONDS else 0
        time.sleep(min(2.0 ** (quick - 2), LONGEST_PAUSE) if quick > 1 else 0.0)


def _end_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _wait(child: int) -> tuple[int, bool]:
    """Wait until the process ends, and pass signals to stop on to it. Its exit code, negative for a signal, and whether it was
    told to stop."""
    told: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        told.append(number)
        if not (number == signal.SIGINT and _is_in_foreground()):  # there the terminal has told both
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in _STOPPING}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return os.waitstatus_to_exitcode(status), bool(told)


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
