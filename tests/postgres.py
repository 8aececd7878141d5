"""A real PostgreSQL of one's own: its folder, a free loopback port, a generated password; ended by its process id.

Where its programs are not installed, whoever asks for one is skipped with that reason (Debian: apt-get install postgresql).
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from ports import free_port
from processes import demoted, own, password, process

USER = "openmlops"
MISSING = "PostgreSQL's programs (initdb, postgres) are not installed: apt-get install postgresql"


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    password: str
    kind = "postgresql"

    def create(self) -> str:
        """Make a new, empty database; its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, port: int | None = None) -> str:
        """The SQLAlchemy URL of a database; `port` is that of a proxy before it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside of any transaction."""
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server until the block ends."""
    folder_of_programs, user = programs(), "postgres" if os.getuid() == 0 else ""
    if folder_of_programs is None:
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="openmlops-postgres-", ignore_cleanup_errors=True) as name:
        folder = own(Path(name) / "own", user)
        secret, port = password(), free_port()
        _make_cluster(folder_of_programs, folder, secret, user)
        listening = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        command: list[str | Path] = [folder_of_programs / "postgres", "-D", folder / "data", "-p", str(port), *listening]
        log = Path(name) / "log"
        with process(command, log, _accepts(secret, port), user=user, ended_by=signal.SIGINT) as started:  # closes connections
            yield Postgres(started, port, secret)


def programs() -> Path | None:
    """The folder of initdb and postgres, if they are installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path))
    return found[-1].parent if found else None


def _make_cluster(folder_of_programs: Path, folder: Path, secret: str, user: str) -> None:
    (folder / "password").write_text(secret)
    (folder / "password").chmod(0o644)
    options = ["-U", USER, "--pwfile", folder / "password", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]
    command = [folder_of_programs / "initdb", "-D", folder / "data", *options]
    made = subprocess.run(command, cwd=folder, capture_output=True, **demoted(user))
    assert made.returncode == 0, made.stderr.decode()


def _accepts(secret: str, port: int):  # type: ignore[no-untyped-def]
    def found() -> bool:
        try:
            psycopg2.connect(f"postgresql://{USER}:{secret}@127.0.0.1:{port}/postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    return found
