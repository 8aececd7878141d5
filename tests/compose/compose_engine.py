"""A copy of what the images are built from, brought up by Compose on the Docker Engine that answers, under a name of its own.

What is here: running `docker compose` there, and asking its containers. What is not: what is claimed of them (the tests).
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from dotenv import dotenv_values

from openmlops.operations.projects.env_file import prepare_compose

ROOT = Path(__file__).parents[2]
SOURCES = ("deploy", "src", "pyproject.toml", "README.md", "LICENSE", ".dockerignore")
PROJECT = "openmlops-test"
STAND_IN = "openmlops-test-object-store:1"
SECONDS = 1800


class Stack:
    """One project of Compose: its folder with a `.env` of its own, its ports, and its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = yaml.safe_load((folder / "deploy" / "compose.yml").read_text())
        self.secrets = {name: value or "" for name, value in dotenv_values(folder / ".env").items()}
        ports = {line.split("${")[1].split(":-")[0] for s in self.file["services"].values() for line in s.get("ports", ())}
        self.ports = {name: _free_port() for name in sorted(ports)}
        self.environment = {name: str(port) for name, port in self.ports.items()} | {"COMPOSE_PROJECT_NAME": PROJECT}
        self.seconds: dict[str, float] = {}
        """how long things took, by name"""

    def compose(self, *words: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
        """`docker compose WORDS`, both profiles known; fails with what it said."""
        return self.run("docker", "compose", "--profile", "mysql", *words, checked=checked)

    def run(self, *words: str, checked: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the folder, as a person there would give it."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
        if checked and done.returncode:
            pytest.fail(
                f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}", pytrace=False
            )
        return done

    def up(self, *profile: str) -> None:
        """Bring one profile up, and wait until it is well; on failure, show what the containers logged."""
        done = self.run("docker", "compose", *profile, "up", "--detach", "--wait", "--wait-timeout", "600", checked=False)
        if done.returncode:
            state = self.compose("ps", "--all").stdout + self.compose("logs", "--tail", "30").stdout
            pytest.fail(f"the stack did not come up:\n{done.stderr[-2000:]}\n{state}", pytrace=False)

    def inside(self, service: str, *words: str, **environment: str) -> str:
        """What a command in a running container prints."""
        given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        return self.compose("exec", "-T", *given, service, *words).stdout

    def ask(self, service: str, *words: str, **environment: str) -> Any:
        """What `openmlops WORDS --json` answers there."""
        return json.loads(self.inside(service, "openmlops", *words, "--json", **environment))

    def url(self, port: str) -> str:
        """The address of a published port on this machine."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def database(self) -> str:
        """The URL of the first stack's database, from this machine."""
        return f"postgresql://openmlops:{self.secrets['POSTGRES_PASSWORD']}@127.0.0.1:{self.ports['POSTGRES_PORT']}/openmlops"

    def serves(self, port: str, version: int, within: float = 300) -> None:
        """Wait until the server there has this version in service."""
        wait(lambda: requests.get(f"{self.url(port)}/health/ready", timeout=5).json().get("serving") == version, within)

    def restart(self, service: str) -> None:
        """Restart one container, and wait until it is well again."""
        self.compose("restart", service)
        wait(lambda: self._health(service) == "healthy", 400)

    def _health(self, service: str) -> str:
        container = self.compose("ps", "--quiet", service).stdout.strip()
        return self.run("docker", "inspect", "--format", "{{.State.Health.Status}}", container).stdout.strip()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block takes."""
        started = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - started


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Until `condition()`; an answer that does not come counts as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (requests.RequestException, ValueError):
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {seconds} s", pytrace=False)
        time.sleep(0.5)


def require_engine() -> None:
    """Skip where no Docker Engine answers, saying so."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, timeout=60).returncode:
        pytest.skip("no Docker Engine answers here (docker info)")


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """The stack in a new folder, its images built, nothing started; at the end nothing of it is left but the images."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".env", "__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    prepare_compose(folder)
    found = Stack(folder)
    found.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        with found.timed("build"):
            found.environment["OBJECT_STORE_IMAGE"] = _object_store(found)
            found.compose("build", "--quiet")
        yield found
    finally:
        found.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", checked=False)


def _object_store(found: Stack) -> str:
    """The image that the compose file names, where it is here or can be had; else a stand-in, built."""
    image = found.file["services"]["object-store"]["image"].split(":-")[1].rstrip("}")
    for attempt in (("image", "inspect"), ("pull", "--quiet")):
        if not found.run("docker", *attempt, image, checked=False).returncode:
            return image
    context = found.folder / "object-store"
    shutil.copytree(Path(__file__).parent / "object-store", context)
    shutil.copy(ROOT / "requirements-dev.lock", context)
    found.run("docker", "build", "--quiet", "--tag", STAND_IN, str(context))
    return STAND_IN
