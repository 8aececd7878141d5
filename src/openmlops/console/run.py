"""Starts the standalone console in one process."""

import logging
import socket
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from openmlops.terminal import log_to_standard_error
from openmlops.web.connections import LimitedProtocol, connections_within

MOST_CONNECTIONS = 512
"""most open connections; beyond them, those that wait for their client longest are closed"""
SHUTDOWN_SECONDS = 3
"""how long requests in progress may take after the signal to stop; streams never end by themselves"""


def serve(app: Starlette, bound: socket.socket) -> None:
    """Serve the console until SIGINT or SIGTERM."""
    log_to_standard_error(logging.WARNING)
    settings = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        http=LimitedProtocol,
        limit_concurrency=connections_within(MOST_CONNECTIONS),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        proxy_headers=False,
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has stopped
        uvicorn.Server(settings).run(sockets=[bound])
