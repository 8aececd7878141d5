"""The `.env` file of a server stack: service addresses and generated secrets.

Adds missing variables only, so it is idempotent and never changes a secret in use. Not here: the services themselves
(`deploy/compose.yml`), and reading the file (`settings`).
"""

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from openmlops.core.types import Value
from openmlops.errors import SettingsError
from openmlops.files import real, write_all
from openmlops.settings import dotenv_text

SECRET_BYTES = 20
COMPOSE_FILE = Path("deploy/compose.yml")


@dataclass(frozen=True)
class Variable:
    """One line of the file. An empty `value` is a secret, generated when the line is written."""

    name: str
    value: str = ""


@dataclass(frozen=True)
class Section:
    """Related variables under a comment."""

    comment: str
    variables: tuple[Variable, ...]


COMPOSE = (
    Section("docker compose reads its file and these values from here", (Variable("COMPOSE_FILE", str(COMPOSE_FILE)),)),
    Section("tokens of the prediction server: full access, and read-only", (Variable("API_TOKEN"), Variable("API_READ_TOKEN"))),
    Section(
        "databases",
        (
            Variable("POSTGRES_PASSWORD"),
            Variable("POSTGRES_ADMIN_PASSWORD"),
            Variable("MYSQL_PASSWORD"),
            Variable("MYSQL_ROOT_PASSWORD"),
        ),
    ),
    Section(
        "object store",
        (Variable("MINIO_ACCESS_KEY"), Variable("MINIO_SECRET_KEY"), Variable("OBJECT_STORE_ADMIN_PASSWORD")),
    ),
    Section(
        "MLflow: administrator, and session key",
        (
            Variable("MLFLOW_TRACKING_USERNAME", "openmlops"),
            Variable("MLFLOW_TRACKING_PASSWORD"),
            Variable("MLFLOW_SESSION_KEY"),
        ),
    ),
    Section(
        "ZenML: administrator, session key, and the key that encrypts stored secrets",
        (
            Variable("ZENML_STORE_USERNAME", "openmlops"),
            Variable("ZENML_STORE_PASSWORD"),
            Variable("ZENML_SESSION_KEY"),
            Variable("ZENML_ENCRYPTION_KEY"),
        ),
    ),
    Section(
        "the same services, for commands that run on this machine outside the containers",
        (
            Variable("DATABASE_URL", "postgresql://openmlops:${POSTGRES_PASSWORD}@127.0.0.1:5432/openmlops"),
            Variable("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"),
            Variable("MINIO_ENDPOINT_URL", "http://127.0.0.1:9000"),
            Variable("MINIO_BUCKET", "openmlops"),
            Variable("ZENML_STORE_URL", "http://127.0.0.1:8237"),
            Variable("ZENML_STACK_NAME", "openmlops-outside"),
        ),
    ),
)


class EnvFile(Value):
    """The variables that were added and kept: names only, never values."""

    path: str
    added: tuple[str, ...]
    kept: tuple[str, ...]


def prepare_compose(folder: Path) -> EnvFile:
    """Complete `.env` in `folder`, the root of a clone, and link it beside the Compose file.

    Existing values stay. Raises SettingsError if there is no Compose file, or `.env` cannot be written.
    """
    if not (folder / COMPOSE_FILE).is_file():
        raise SettingsError(f"There is no {COMPOSE_FILE} in {folder}", "Run it in the root of a clone of the repository")
    path = folder / ".env"
    try:
        found = _complete(path)
        _show_to_compose(path, folder / COMPOSE_FILE.parent / ".env")
    except OSError as error:
        raise SettingsError(f"{error.filename or path} cannot be written ({error.strerror})", "Make it writable") from error
    return found


def _complete(path: Path) -> EnvFile:
    """Append missing variables under a file lock; the file is created with mode 0600."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
        before = dotenv_text(path)
        kept = {name for name, value in dotenv_values(stream=StringIO(before), interpolate=False).items() if value}
        added = tuple(v.name for section in COMPOSE for v in section.variables if v.name not in kept)
        if added:
            _append(handle, ("" if not before or before.endswith("\n") else "\n") + _lines(kept))
    return EnvFile(path=str(path), added=added, kept=tuple(sorted(kept)))


def _append(handle: int, text: str) -> None:
    """Append to an open file: all of the text, or nothing. Raises OSError."""
    size = os.fstat(handle).st_size
    try:
        write_all(handle, text.encode())
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def _lines(kept: set[str]) -> str:
    blocks = []
    for section in COMPOSE:
        if missing := [variable for variable in section.variables if variable.name not in kept]:
            lines = (f"{v.name}={v.value or secrets.token_hex(SECRET_BYTES)}" for v in missing)
            blocks.append("\n".join([f"# {section.comment}", *lines, ""]))
    return "\n".join(blocks)


def _show_to_compose(path: Path, link: Path) -> None:
    """Link `.env` beside the Compose file, where Compose reads it."""
    with suppress(FileExistsError):
        link.symlink_to(Path("..") / path.name)
    if real(link) != real(path):
        raise SettingsError(f"{link} already exists and is not a link to {path}", "Move its contents there, then remove it")
