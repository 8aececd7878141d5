"""Real servers as processes of this machine: free loopback ports, folders and passwords of their own, ended by process id."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

BIN = Path(sys.executable).parent
START_SECONDS = 120


def password() -> str:
    return secrets.token_hex(16)


@contextmanager
def process(
    command: list[str | Path],
    log: Path,
    predictions: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    user: str = "",
    ended_by: signal.Signals = signal.SIGTERM,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends, which begins when `answers()`; its output goes to `log`.

    `user`: the system's user to run as, where this is root and the program refuses that.
    """
    with log.open("ab") as out:
        given = {"env": {**os.environ, **(environment or {})}, "cwd": folder, **demoted(user)}
        started = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **given)
    try:
        _wait(started, predictions, log)
        yield started
    finally:
        end(started, ended_by)


def demoted(user: str) -> dict[str, Any]:
    """For subprocess: to run as `user`, where this is root."""
    if not user or os.getuid() != 0:
        return {}
    found = pwd.getpwnam(user)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def end(started: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM) -> None:
    """The signal, and after ten seconds SIGKILL, to the process and those that it started."""
    for sent in (first, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(started.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            started.wait(10)
            return


def _wait(started: subprocess.Popen[bytes], predictions: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not predictions():
        assert started.poll() is None, f"{started.args} ended at once: {log.read_text()[-1500:]}"
        assert time.monotonic() < deadline, f"{started.args} did not answer: {log.read_text()[-1500:]}"
        time.sleep(0.1)


def listens(port: int) -> Callable[[], bool]:
    """Whether something accepts connections on a loopback port."""

    def found() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return found


def is_healthy(url: str) -> Callable[[], bool]:
    """Whether `url` answers with success."""

    def found() -> bool:
        try:
            return requests.get(url, timeout=2).ok
        except requests.RequestException:
            return False

    return found


def own(folder: Path, user: str) -> Path:
    """An empty folder that belongs to `user`, where this is root; its parents can be passed through."""
    folder.mkdir(parents=True)
    if os.getuid() == 0:
        shutil.chown(folder, user, user)
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    return folder
