"""Starting the console by itself: one process that reads the database and listens."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from openmlops.errors import SettingsError

SHUTDOWN_SECONDS = 3
"""how long requests that are being answered may take after the signal to stop; streams never end by themselves"""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on the address. Raises SettingsError when it is taken."""
    bound = bind(host, port)
    try:
        yield bound
    finally:
        bound.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that is handed on to worker processes. Raises SettingsError."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), port))
    except OSError as error:
        found.close()
        problem = f"The server cannot listen on {host}:{port} ({error.strerror})"
        raise SettingsError(problem, "Give another --port, or end what listens there") from error
    found.set_inheritable(True)
    return found


def serve(app: Starlette, bound: socket.socket) -> None:
    """Show the console until SIGINT or SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(settings).run(sockets=[bound])
