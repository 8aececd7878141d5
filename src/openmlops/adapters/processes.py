"""Identity of a process, so that another process on the same machine can check whether it is still alive.

A PID alone is reused and means nothing on another machine, so host, boot, PID namespace and start time are part of it. What is
not here: what to do about a dead process (`operations.run_leases`). Without /proc nothing is known about any process.
"""

import os
import socket
from functools import cache
from pathlib import Path

from openmlops.core.types import Value

PROC = Path("/proc")
UNKNOWN, ENDED = 0, -1


class Process(Value):
    """One process. `machine` identifies a boot of a system and its PID namespace; empty if unknown."""

    host: str
    pid: int
    machine: str = ""
    started: int = UNKNOWN
    """start time in clock ticks after the boot"""

    @classmethod
    def this(cls) -> "Process":
        """The current process."""
        pid = os.getpid()
        return cls(host=socket.gethostname()[:64], pid=pid, machine=_machine(), started=_started(pid) or UNKNOWN)

    @property
    def is_dead(self) -> bool | None:
        """True, False, or None if it cannot be determined from here."""
        if not self.machine or self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's process: it exists, but no more can be seen of it
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
    """Start time of a process; ENDED for a zombie; None if it cannot be seen."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return ENDED if fields[0] in "ZX" else int(fields[19])
