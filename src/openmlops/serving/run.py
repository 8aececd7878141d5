"""Starts the server: one process, or several that share the socket and the database."""

import logging
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from openmlops.adapters.database import connect_with_retries
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig
from openmlops.serving.metrics import forget_worker, share
from openmlops.serving.supervisor import supervised
from openmlops.terminal import log_to_standard_error
from openmlops.web.connections import LimitedProtocol, connections_within
from openmlops.web.sockets import bind

SHUTDOWN_SECONDS = 10
"""how long requests in progress may take after the signal to stop"""
SILENT_SECONDS = 10
"""how long a worker may not answer its supervisor before it counts as hung"""
START_SECONDS = 300.0
"""how long a worker may take to start, which is mostly imports: a minute on a busy machine"""


def serve_supervised(config: ServingConfig) -> None:
    """As `serve`, and a server of one process that dies of a signal is replaced at once, by a fork that waits for nothing."""
    if config.workers > 1:
        return serve(config)
    import onnxruntime  # noqa: F401 - here, so that the forks need not

    config.tokens.require_for(config.host)
    log_to_standard_error(logging.INFO)
    listening = bind(config.host, config.port)
    return supervised(lambda: serve(config, listening))


def serve(config: ServingConfig, listening: socket | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress are completed. A worker that dies is replaced.

    Raises SettingsError for an address in use, ineffective tokens, or an invalid database URL; ServiceUnavailable for an SQLite
    file that cannot be used. An unavailable database server is waited for.
    """
    config.tokens.require_for(config.host)
    connect_with_retries(config.database_url.get_secret_value()).dispose()
    log_to_standard_error(logging.INFO)
    if config.metrics_folder:
        share(config.metrics_folder)
    listening = listening or bind(config.host, config.port)
    settings = uvicorn_config(config)
    if config.metrics_folder:
        Workers(settings, [listening], config.metrics_folder).run()
    else:
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has stopped
            uvicorn.Server(settings).run(sockets=[listening])


class Workers(Multiprocess):
    """uvicorn's supervisor, which replaces workers that die or hang, but has patience with those that start."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], metrics: Path) -> None:
        super().__init__(config, sockets)
        self._metrics = metrics
        self._ready: set[int] = set()
        self._begun: dict[int, float] = {}

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, and those hung that have been ready; the metrics forget them."""
        pids = {each.pid or 0 for each in self.processes}
        starting = [each for each in self.processes if self._is_starting(each)]
        known, self.processes = self.processes, [each for each in self.processes if each not in starting]
        try:
            super().keep_subprocess_alive()
        finally:
            replaced = iter(self.processes)
            self.processes = [each if each in starting else next(replaced) for each in known]
        for pid in pids - {each.pid or 0 for each in self.processes}:
            forget_worker(pid, self._metrics)

    def _is_starting(self, process: Process) -> bool:
        """Whether it has not answered yet, and may take more time. It is asked once: its answers would pile up."""
        pid = process.pid or 0
        if pid in self._ready or not process.process.is_alive():
            return False
        if pid not in self._begun:
            self._begun[pid] = time.monotonic()
            process.parent_conn.send(b"ping")
        elif process.parent_conn.poll(0):
            process.parent_conn.recv()
            self._ready.add(pid)
            return False
        return time.monotonic() - self._begun[pid] < START_SECONDS


def worker(config: ServingConfig) -> FastAPI:
    """The application of a worker process, which logs to standard error."""
    log_to_standard_error(logging.INFO)
    return create_app(config)


def uvicorn_config(config: ServingConfig) -> uvicorn.Config:
    """uvicorn's configuration, which is passed to worker processes."""
    return uvicorn.Config(
        partial(worker, config),
        factory=True,
        workers=config.workers,
        access_log=False,
        log_config=None,
        http=LimitedProtocol,
        limit_concurrency=connections_within(config.limits.connections),
        timeout_keep_alive=round(config.settings.http_idle_seconds),
        timeout_worker_healthcheck=SILENT_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        proxy_headers=False,
    )
