"""Checks that every configured service is available: one finding per service, with its remedy. Read-only.

Here: home folder, database, MLflow, the champion in it, retention, the copies of the data, object store, ZenML, prediction
server. Not here: the stack registered in ZenML (`pipelines.zenml_stack`), and its content (`openmlops data status`).
"""

import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Literal

import requests

from openmlops import disk
from openmlops.adapters import database, zenml_server, zenml_store
from openmlops.adapters.schema import HEAD
from openmlops.core.types import Value
from openmlops.errors import ModelNotFound, OpenMLOpsError, SettingsError
from openmlops.files import write_bytes
from openmlops.operations.release.aliases import is_kept, version_of, what_is_gone
from openmlops.operations.release.witnesses import behind, testimony
from openmlops.operations.retention import sizes
from openmlops.operations.workspace import Workspace
from openmlops.settings import secrets_in

FREE_BYTES = 2 * 1024**3
"""free disk space below which checkpoints and exports of a training may not fit"""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
PROBE_BYTES = 256 * 1024
"""that must fit everywhere"""
OLDEST = {"PostgreSQL": (12,), "MySQL": (8,), "MariaDB": (10, 5)}
SECONDS = 5.0


class Finding(Value):
    """Status of one service. `failed`: commands that need it fail until `remedy` is applied.

    `says` and `remedy` have no full stop at the end; the caller adds punctuation.
    """

    service: str
    status: Literal["ok", "warning", "failed"]
    says: str
    remedy: str = ""


class Examination(Value):
    """All findings, in the order in which commands use the services."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(finding.status != "failed" for finding in self.findings)


def examine(workspace: Workspace, server: str) -> Iterator[Finding]:
    """Check each service, the prediction server at the URL `server` last. What the champion is cannot be said without the
    database and MLflow."""
    checks: dict[str, Callable[[], Finding | None]] = {
        "settings": lambda: _settings(workspace),
        "home": lambda: _home(workspace),
        "database": lambda: _database(workspace),
        "mlflow": lambda: _mlflow(workspace),
        "ledger": lambda: _ledger(workspace),
        "champion": lambda: _champion(workspace),
        "retention": lambda: _retention(workspace),
        "data": lambda: _data(workspace),
        "object store": lambda: _object_store(workspace),
        "zenml": lambda: _zenml(workspace),
        "server": lambda: _server(workspace, server),
    }
    failed: set[str] = set()
    for service, check in checks.items():
        if service == "retention" and "database" in failed:
            continue
        if service in ("ledger", "champion") and failed & {"database", "mlflow"}:
            continue
        try:
            finding = check()
        except OpenMLOpsError as error:
            finding = Finding(service=service, status="failed", says=error.problem, remedy=error.remedy)
        if finding is None:
            continue
        if finding.status == "failed":
            failed.add(service)
        yield finding


def lost(workspace: Workspace) -> tuple[Finding, ...]:
    """What is gone of the data's copies and of the embedded ZenML store: the findings of `examine` that are not ok."""
    checks = [("data", _data)]
    if not workspace.settings.zenml_store_url.startswith("http"):
        checks.append(("zenml", _zenml))
    found = []
    for service, check in checks:
        try:
            finding = check(workspace)
        except OpenMLOpsError as error:
            finding = Finding(service=service, status="failed", says=error.problem, remedy=error.remedy)
        if finding is not None and finding.status != "ok":
            found.append(finding)
    return tuple(found)


def _settings(workspace: Workspace) -> Finding:
    says = f"use case {workspace.use_case.name}, model {workspace.model_name}"
    env = Path(".env")
    if env.is_file() and env.stat().st_mode & _OTHERS and secrets_in(env):
        return Finding(
            service="settings", status="warning", says=f"{says}; .env is readable by other users", remedy="Run: chmod 600 .env"
        )
    return Finding(service="settings", status="ok", says=says)


def _existing(place: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _home(workspace: Workspace) -> Finding:
    """Whether there is room where commands write: home, database, reports and temporary files may be on several disks."""
    home = workspace.home
    places = {home: "OPENMLOPS_HOME", workspace.artifacts: "ARTIFACTS_DIR", workspace.monitoring: "MONITORING_DIR"}
    places[Path(tempfile.gettempdir())] = "TMPDIR"
    if file := _database_file(workspace):
        places[file.parent] = "DATABASE_URL"
    for place, setting in places.items():
        there = _existing(place)
        try:
            write_bytes(there / f".doctor-{id(workspace)}", bytes(PROBE_BYTES))
            (there / f".doctor-{id(workspace)}").unlink()
        except OSError as error:
            remedy = disk.AGAIN if disk.is_full(error) else f"Make it writable, or set {setting}"
            says = f"{there} is full, {disk.free_bytes(there):,} bytes free" if disk.is_full(error) else ""
            return Finding(
                service="home",
                status="failed",
                says=says or f"{there} is not writable ({error.strerror})",
                remedy=remedy,
            )
    disks: dict[int, tuple[int, Path]] = {}
    for place in places:  # of one disk the first: what is free may change between two looks
        device = _existing(place).stat().st_dev
        if device not in disks:
            disks[device] = (disk.free_bytes(place), place)
    free, least = min(disks.values())
    says = f"{home}, {free / 1024**3:.1f} GiB free" + (f" for {least}" if least != home else "")
    if free < FREE_BYTES:
        return Finding(service="home", status="warning", says=says, remedy=f"Free {FREE_BYTES / 1024**3:.0f} GiB")
    if exposed := [path.name for path in _private(workspace) if path.exists() and path.stat().st_mode & _OTHERS]:
        says = f"{says}; {' and '.join(exposed)} can be read by other users"
        return Finding(service="home", status="warning", says=says, remedy=f"Run: chmod -R go= {quote(str(home))}")
    return Finding(service="home", status="ok", says=says)


def _private(workspace: Workspace) -> list[Path]:
    """What holds data of production. Made for its owner alone, but not by earlier releases."""
    file = _database_file(workspace)
    return [*([file] if file else ()), workspace.home / "inputs"]


def _database_file(workspace: Workspace) -> Path | None:
    """The file of an embedded database; None for a server, and for a URL that names neither, of which `_database` tells."""
    url = workspace.settings.database
    with suppress(SettingsError):
        return database.file_of(url) if database.is_embedded(url) else None
    return None


def _database(workspace: Workspace) -> Finding:
    found = database.describe(workspace.settings.database)
    says = f"{found.product}, {found.place}"
    name, _, number = found.product.partition(" ")
    if name in OLDEST and tuple(int(part) for part in number.split(".")[:2]) < OLDEST[name]:
        oldest = ".".join(map(str, OLDEST[name]))
        return Finding(
            service="database", status="failed", says=f"{says} is too old", remedy=f"Upgrade to {name} {oldest} or newer"
        )
    if found.revision is None:
        return Finding(service="database", status="ok", says=f"{says}: empty; the first command creates schema {HEAD}")
    if found.revision > HEAD:
        problem = f"{says} is at schema {found.revision}; this version supports up to {HEAD}"
        return Finding(service="database", status="failed", says=problem, remedy="Upgrade OpenMLOps")
    if found.revision < HEAD:
        problem = f"{says} is at schema {found.revision}; this version needs {HEAD}"
        return Finding(service="database", status="failed", says=problem, remedy="Run: openmlops upgrade")
    return Finding(service="database", status="ok", says=f"{says}, schema {found.revision}")


def _mlflow(workspace: Workspace) -> Finding:
    settings = workspace.settings
    uri = settings.tracking_uri
    if not uri.startswith("http"):
        return Finding(service="mlflow", status="ok", says=f"embedded, {version('mlflow')}, under {workspace.home}")
    from openmlops.adapters.mlflow_client import hide_password, server_version

    found = server_version(uri, settings.mlflow_tracking_username, settings.mlflow_tracking_password.get_secret_value())
    says = hide_password(f"{uri}, version {found}, credentials accepted", uri)
    if found.split(".")[:2] != version("mlflow").split(".")[:2]:
        remedy = f"Use MLflow {version('mlflow')} on the server, the version tested with this release"
        return Finding(service="mlflow", status="warning", says=says, remedy=remedy)
    return Finding(service="mlflow", status="ok", says=says)


def _ledger(workspace: Workspace) -> Finding:
    """Whether it is the whole and newest one, as far as others know."""
    if database.describe(workspace.settings.database).revision not in (None, HEAD):
        return Finding(service="ledger", status="ok", says=f"not read before schema {HEAD}")
    found = testimony(workspace, workspace.model_name)
    if found.against:
        lost = behind(found)
        return Finding(service="ledger", status="failed", says=lost.problem, remedy=lost.remedy)
    known = f", as {len(found.witnesses)} other places know" if found.witnesses else ""
    return Finding(service="ledger", status="ok", says=f"{found.row} rows{known}" if found.row else "no row yet")


def _champion(workspace: Workspace) -> Finding:
    name = workspace.model_name
    remedy = f"Run `openmlops rollback {name}`, or put another version into production with `openmlops promote`"
    if database.describe(workspace.settings.database).revision != HEAD:
        return Finding(service="champion", status="ok", says=f"no version of {name} in a ledger of schema {HEAD}")
    number = workspace.ledger.champion(name)
    if number is None:
        return Finding(service="champion", status="ok", says=f"no version of {name} is champion yet")
    champion = version_of(workspace, name, number)
    try:
        if not is_kept(workspace, champion):
            workspace.registry.fetch(champion)
    except ModelNotFound as error:
        return Finding(service="champion", status="failed", says=f"{name}/{number}: {error.problem}", remedy=remedy)
    if gone := what_is_gone(workspace, champion):
        return Finding(service="champion", status="warning", says=f"{name}/{number}, {gone}", remedy=remedy)
    return Finding(service="champion", status="ok", says=f"{name}/{number}")


def _retention(workspace: Workspace) -> Finding:
    """How large what grows is, and whether its limits are kept."""
    if database.describe(workspace.settings.database).revision != HEAD:
        return Finding(service="retention", status="ok", says=f"nothing to keep in a database before schema {HEAD}")
    found = sizes.measure(workspace, datetime.now(UTC))
    if found.exceeded:
        remedy = "Run `openmlops prune`, or keep `openmlops watch` running"
        return Finding(service="retention", status="warning", says=f"{found.text}; {found.exceeded}", remedy=remedy)
    return Finding(service="retention", status="ok", says=found.text)


def _data(workspace: Workspace) -> Finding | None:
    """None if no version is recorded yet, or the settings of the object store are wrong, which its own finding says. Raises
    DataError if the record is damaged."""
    folder = workspace.data_folder
    try:
        versions = workspace.data_versions
    except SettingsError:
        return None
    if not versions.is_recorded(folder):
        return None
    says = f"version {versions.manifest(folder).fingerprint[:12]} of {folder}"
    copies = versions.copies(folder)
    gone = ", ".join(name for name, is_there in copies.items() if not is_there)
    if not gone or gone == "cache":  # which is filled from the others
        return Finding(service="data", status="ok", says=says)
    if not any(copies.values()) and "remote" in copies:
        remedy = "Restore the DVC remote, or run `openmlops data add` with a good copy; trained versions stay"
        return Finding(service="data", status="failed", says=f"{says} is gone from all of {gone}", remedy=remedy)
    way = f"`openmlops data add {quote(str(folder))}`, which stores it again" if copies["folder"] else "`openmlops data pull`"
    return Finding(service="data", status="warning", says=f"{says} is gone from {gone}", remedy=f"Run {way}")


def _object_store(workspace: Workspace) -> Finding:
    settings, store = workspace.settings, workspace.object_store
    if not settings.minio_endpoint_url:
        return Finding(service="object store", status="ok", says=f"embedded, a folder under {workspace.home}")
    says = f"{settings.minio_endpoint_url}, credentials accepted, bucket '{settings.minio_bucket}'"
    made = "" if store.is_made() else " does not exist yet: the first upload creates it"
    return Finding(service="object store", status="ok", says=says + made)


def _zenml(workspace: Workspace) -> Finding:
    settings, ours = workspace.settings, version("zenml")
    url = settings.zenml_store_url
    if not url.startswith("http"):
        says = f"embedded, {ours}, under {workspace.home}"
        if gone := zenml_store.what_is_gone(workspace.home / zenml_store.FOLDER):
            return Finding(service="zenml", status="warning", says=f"{says}: {gone}", remedy=zenml_store.AGAIN)
        return Finding(service="zenml", status="ok", says=says)
    found = zenml_server.version_of(url)
    if found != ours:
        problem = f"{url} runs version {found}; the client is {ours}"
        return Finding(
            service="zenml", status="failed", says=problem, remedy="Install the same version on both: ZenML requires it"
        )
    password, key = settings.zenml_store_password.get_secret_value(), settings.zenml_store_api_key.get_secret_value()
    zenml_server.log_in(url, settings.zenml_store_username, password, key)
    return Finding(service="zenml", status="ok", says=f"{url}, version {found}, credentials accepted")


def _server(workspace: Workspace, url: str) -> Finding:
    try:
        response = requests.get(f"{url.rstrip('/')}/health/ready", timeout=SECONDS)
        state = response.json()
        serving, problem = state["serving"], (state.get("problem") or "").rstrip(".")
    except requests.ConnectionError:
        return Finding(service="server", status="ok", says=f"no prediction server runs at {url}")
    except requests.Timeout:
        problem = f"{url} did not respond within {SECONDS:.0f} s"
        return Finding(service="server", status="warning", says=problem, remedy="Check its log and the load of its machine")
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        problem = f"{url} is not an OpenMLOps prediction server"
        return Finding(service="server", status="warning", says=problem, remedy="Pass the right URL with --server")
    if not response.ok:
        remedy = f"Check its log; {problem[0].lower()}{problem[1:]}" if problem else "Check its log"
        return Finding(service="server", status="warning", says=f"{url} is not serving predictions", remedy=remedy)
    return Finding(service="server", status="ok", says=f"{url} serves version {serving}{f'; {problem}' if problem else ''}")
