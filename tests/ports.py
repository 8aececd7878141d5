"""Ports of this machine for servers of tests."""

import getpass
import socket
import tempfile
from pathlib import Path

from filelock import FileLock

FIRST = 20_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_GIVEN = Path(tempfile.gettempdir()) / f"openmlops-tests-{getpass.getuser()}" / "port"


def free_port() -> int:
    """A free loopback port that nobody is given until all others were.

    It lies below the ports that the system gives to whoever connects or asks for any: one of those may be taken again before
    the server that it is meant for has started.
    """
    beyond = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 49_152
    if beyond <= FIRST:
        return _any()
    _GIVEN.parent.mkdir(mode=0o700, exist_ok=True)
    with FileLock(f"{_GIVEN}.lock"):
        port = int(_GIVEN.read_text() or 0) if _GIVEN.exists() else 0
        for _ in range(FIRST, beyond):
            port = port + 1 if FIRST <= port + 1 < beyond else FIRST
            if _is_free(port):
                _GIVEN.write_text(str(port))
                return port
    raise AssertionError(f"no port from {FIRST} to {beyond} is free")


def _any() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
