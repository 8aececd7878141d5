"""Starts the server: one process, or several that share the socket and the database."""

import logging
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from openmlops.adapters.database import connect_with_retries
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig
from openmlops.serving.metrics import share
from openmlops.web.sockets import bind

SHUTDOWN_SECONDS = 10
"""how long requests in progress may take after the signal to stop"""


def serve(config: ServingConfig) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are completed. A worker that dies is replaced.

    Raises SettingsError for an address in use, ineffective tokens, or an invalid database URL; ServiceUnavailable for an SQLite
    file that cannot be used. An unavailable database server is waited for.
    """
    config.tokens.require_for(config.host)
    connect_with_retries(config.database_url.get_secret_value()).dispose()
    _log_to_standard_error()
    if config.metrics_folder:
        share(config.metrics_folder)
    listening = bind(config.host, config.port)
    settings = uvicorn_config(config)
    if config.workers > 1:
        Multiprocess(settings, sockets=[listening]).run()
    else:
        uvicorn.Server(settings).run(sockets=[listening])


def worker(config: ServingConfig) -> FastAPI:
    """The application of a worker process, which logs to standard error."""
    _log_to_standard_error()
    return create_app(config)


def uvicorn_config(config: ServingConfig) -> uvicorn.Config:
    """uvicorn's configuration, which is passed to worker processes."""
    return uvicorn.Config(
        partial(worker, config),
        factory=True,
        workers=config.workers,
        access_log=False,
        log_config=None,
        limit_concurrency=config.limits.connections,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        proxy_headers=False,
    )


def _log_to_standard_error() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
