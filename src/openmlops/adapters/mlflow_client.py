"""The MLflow client of tracking and registry: with its own URI, an initialised schema, and our errors.

Nothing here reads or sets MLflow's global tracking URI: ZenML's steps leave it empty for the next one.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from openmlops import disk
from openmlops.adapters.mlflow_tables import EMBEDDED
from openmlops.errors import DiskFull, ServiceRefused, ServiceUnavailable
from openmlops.files import PRIVATE, replacing

PROBE_SECONDS = 5.0
SEARCH = "/api/2.0/mlflow/experiments/search"


def hide_password(text: str, uri: str) -> str:
    """`text` with the password of `uri`, both encoded and decoded, replaced by asterisks."""
    password = urlsplit(uri).password
    for secret in {password, unquote(password), quote(unquote(password), safe="")} if password else ():
        text = text.replace(secret, "***")
    return text


@contextmanager
def translating_errors(uri: str) -> Iterator[None]:
    """Translate errors of MLflow, its database and its server inside the block into ServiceUnavailable, password hidden.

    Requests that MLflow rejects raise ServiceRefused.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        problem = hide_password(f"MLflow at {uri} failed to handle a request ({cause})", uri)
        if disk.is_full(error):
            raise DiskFull(problem, disk.AGAIN) from error
        kind = ServiceRefused if _is_refusal(error) else ServiceUnavailable
        raise kind(problem, "Check MLFLOW_TRACKING_URI and that the server runs") from None


def _is_refusal(error: Exception) -> bool:
    """Whether it is a response that retrying does not change; 408, 409 and 429 are temporary."""
    status = error.get_http_status_code() if isinstance(error, MlflowException) else 500
    return 400 <= status < 500 and status not in (408, 409, 429)


@cache
def connect(uri: str) -> MlflowClient:
    """A client of `uri`. The schema of an embedded store is created here, by one process at a time.

    Without the lock, three of four processes that start at once on a new SQLite file fail ("duplicate column name").
    """
    if not uri.startswith(EMBEDDED):
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it logs a warning per retry
        with translating_errors(uri):
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    database = Path(uri.removeprefix(EMBEDDED))
    with translating_errors(uri):
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock"):
            if not database.exists() or not database.stat().st_size:
                with replacing(database) as beside:  # MLflow cannot go on where a killed process or a full disk stopped it
                    beside.chmod(PRIVATE)
                    _initialised(f"{EMBEDDED}{beside}")
            return _initialised(uri)


def _initialised(uri: str) -> MlflowClient:
    """A client of an embedded store. MLflow creates the tables of runs with it, those of models at the first query of one."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_registered_models(max_results=1)
    return client


def server_version(uri: str, user: str = "", password: str = "") -> str:
    """The version of the MLflow server at an http `uri`, after checking the credentials.

    Raises ServiceUnavailable if there is no response, if it is not an MLflow server, or if it rejects the credentials.
    """
    where, remedy = hide_password(f"The MLflow server {uri}", uri), "Start it, or correct MLFLOW_TRACKING_URI"
    credentials = (user, password) if user else None
    try:
        response = requests.get(f"{uri.rstrip('/')}/version", timeout=PROBE_SECONDS, auth=credentials)
        if response.ok:
            body = {"max_results": 1}
            found = requests.post(f"{uri.rstrip('/')}{SEARCH}", json=body, timeout=PROBE_SECONDS, auth=credentials)
            if found.ok and "experiments" in found.json():
                return response.text.strip()[:40]
            response = found
    except (requests.RequestException, ValueError) as error:
        raise ServiceUnavailable(f"{where} did not respond ({type(error).__name__})", remedy) from None
    if response.status_code == requests.codes.unauthorized:
        problem = f"{where} refused the credentials ({response.status_code})"
        raise ServiceUnavailable(
            problem, "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of one of its users"
        )
    if response.status_code == requests.codes.forbidden:
        problem = f"{where} rejected this host name ({response.status_code})"
        raise ServiceUnavailable(problem, "Start it with this host among its --allowed-hosts, or give the user permissions")
    raise ServiceUnavailable(f"{where} returned {response.status_code}, so it is not an MLflow server", remedy)
