"""Ctrl-C and SIGTERM while a command works: one line, exit code 130, no traceback. Before, `entry` takes care of them.

What is here: when a signal may raise KeyboardInterrupt, and the end of an interrupted process. What is not: what a command
keeps so that it can be resumed, and the servers, which stop by signals in their own way.
"""

import atexit
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

CODE = 130
SAID = "Interrupted; the same command resumes."
AGAIN_SECONDS, LONGEST_SECONDS = 0.05, 5.0
"""how soon a signal that arrived during an import is looked at again, and when the process ends without waiting for it"""

_since: float | None = None
"""when the first signal of this command arrived (time.monotonic)"""


def begin() -> None:
    """From here on a signal raises KeyboardInterrupt in the main thread, so that what the command holds is released.

    Not during an import: libraries turn the exception into errors of their own there, or abort in C++. The signal then waits
    for the end of the import, for LONGEST_SECONDS at most. One that is raised where Python ignores exceptions, as in
    `__del__`, is raised again.
    """
    global _since
    _since = None
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _raised_where_ignored


def happened() -> bool:
    """Whether a signal has interrupted this command: an exception that follows is what a library made of it."""
    return _since is not None


def say() -> None:
    """The one line, without any library."""
    with suppress(OSError, ValueError):
        print(SAID, file=sys.stderr, flush=True)


def end() -> NoReturn:
    """Say it and end the process at once, as a kill would."""
    os.write(2, f"{SAID}\n".encode())
    os._exit(CODE)


def leave() -> NoReturn:
    """End an interrupted process that has released what it held. Threads of libraries are not waited for, which could abort."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(CODE)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _since
    _since = _since or time.monotonic()
    if not _is_importing(frame):
        raise KeyboardInterrupt
    if time.monotonic() - _since > LONGEST_SECONDS:
        end()
    _again()


def _again() -> None:
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raised_where_ignored(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _again()
    else:
        sys.__unraisablehook__(unraisable)
