"""Sockets that a server listens on."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from openmlops.errors import SettingsError


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket on the address. Raises SettingsError if it is in use."""
    bound = bind(host, port)
    try:
        yield bound
    finally:
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket to pass to worker processes. Raises SettingsError if the address is in use."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), port))
    except OSError as error:
        found.close()
        problem = f"The server cannot listen on {host}:{port} ({error.strerror})"
        raise SettingsError(problem, "Choose another --port, or stop the process that uses this one") from error
    found.set_inheritable(True)
    return found
