"""Starts the standalone console in one process."""

import logging
import socket

import uvicorn
from starlette.applications import Starlette

from openmlops.web.connections import LimitedProtocol, connections_within

MOST_CONNECTIONS = 512
"""most open connections; beyond them, those that wait for their client longest are closed"""
SHUTDOWN_SECONDS = 3
"""how long requests in progress may take after the signal to stop; streams never end by themselves"""


def serve(app: Starlette, bound: socket.socket) -> None:
    """Serve the console until SIGINT or SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
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
    uvicorn.Server(settings).run(sockets=[bound])
