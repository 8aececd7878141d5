"""Which process is meant, so that a later one on the same machine can tell whether it still lives.

A process number alone is used again, and says nothing on another machine: host, boot, number space and start time belong to it.
What is not here: what to do about a dead one (`operations.runs`). Where there is no /proc nothing is known of any process.
"""

import os
import socket
from functools import cache
from pathlib import Path

from openmlops.core.types import Value

PROC = Path("/proc")
UNKNOWN, ENDED = 0, -1


class Process(Value):
    """One process. `machine` is one boot of one system and its space of process numbers; empty where that is not known."""

    host: str
    pid: int
    machine: str = ""
    started: int = UNKNOWN
    """clock ticks after the boot"""

    @classmethod
    def this(cls) -> "Process":
        """The one that asks."""
        pid = os.getpid()
        return cls(host=socket.gethostname()[:64], pid=pid, machine=_machine(), started=_started(pid) or UNKNOWN)

    @property
    def is_dead(self) -> bool | None:
        """True, False, or None where that cannot be known from here."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's: it is there, and may be all that can be seen of it
            pass
        return _started(self.pid) not in (self.started, None)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def _machine() -> str:
    try:
        boot = (PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self' / 'ns' / 'pid')}"
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When it was started; ENDED if nobody has asked for its exit code yet; None if it cannot be seen."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return ENDED if fields[0] in "ZX" else int(fields[19])
