"""How tracking and registry reach MLflow: a client that carries its own URI, on a schema that exists, with our errors.

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

from openmlops.errors import ServiceUnavailable

EMBEDDED = "sqlite:///"


def hide_password(text: str, uri: str) -> str:
    """`text` with the password of `uri`, as written and decoded, replaced by asterisks."""
    password = urlsplit(uri).password
    for secret in {password, unquote(password), quote(unquote(password), safe="")} if password else ():
        text = text.replace(secret, "***")
    return text


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its server raise inside the block into ServiceUnavailable, password hidden."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException, OSError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        problem = hide_password(f"MLflow at {uri} did not do what it was asked ({cause})", uri)
        raise ServiceUnavailable(problem, "Check MLFLOW_TRACKING_URI and that the server runs") from None


@cache
def connect(uri: str) -> MlflowClient:
    """A client of `uri`. The schema of an embedded store is made here, by one process at a time.

    Without the lock, three of four processes that start at once on a fresh SQLite file die ("duplicate column name"), for
    MLflow makes the tables of runs as soon as it makes a client, and those of models at the first question about one.
    """
    if not uri.startswith(EMBEDDED):
        with answering(uri):
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    database = Path(uri.removeprefix(EMBEDDED))
    with answering(uri):
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock"):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_registered_models(max_results=1)
    return client
