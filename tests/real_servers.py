"""MariaDB, an S3 server, MLflow and a ZenML server, each as a context manager that yields how to reach it."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import sqlalchemy

from ports import free_port
from postgres import USER, Postgres
from processes import BIN, is_healthy, listens, own, password, process

ROOT = Path(__file__).resolve().parents[1]
ZENML = ROOT / ".venv-zenml" / "bin"
"""ZenML's server needs another fastapi than ours: `make test-servers` makes this environment"""


@dataclass(frozen=True)
class Database:
    """MariaDB with one user; `url` takes the name of a database."""

    port: int
    password: str
    kind = "mysql"

    def url(self, database: str) -> str:
        return f"{self.kind}://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with one pair of keys; its buckets are the subfolders of `folder`."""

    url: str
    port: int
    key: str
    secret: str
    folder: Path

    def bucket(self, name: str) -> str:
        """Make a bucket."""
        keys = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret, "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=self.url, **keys).create_bucket(Bucket=name)
        return name


@dataclass(frozen=True)
class Web:
    """A server that speaks HTTP, and its administrator."""

    url: str
    port: int
    user: str
    password: str


@contextmanager
def mariadb(log: Path, databases: tuple[str, ...]) -> Iterator[Database]:
    """Debian's MariaDB, with one user who may do everything; its log at `log`. Its data lies elsewhere: every session of
    pytest that begins closes the folder of all sessions to other users."""
    found = Database(free_port(), password())
    owner = ["--user=mysql"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="openmlops-mariadb-", ignore_cleanup_errors=True) as name:
        data = own(Path(name) / "own", "mysql")
        install = [
            "mariadb-install-db",
            "--no-defaults",
            *owner,
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*install, "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)
        first = Path(name) / "first.sql"
        made = f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{found.password}';"
        first.write_text(f"{made}\nGRANT ALL ON *.* TO '{USER}'@'%';\n")  # one statement a line
        first.chmod(0o644)
        command: list[str | Path] = ["mariadbd", "--no-defaults", *owner, f"--datadir={data}", f"--port={found.port}"]
        command += [
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--socket={data}/socket",
            f"--init-file={first}",
            "--character-set-server=utf8mb4",
        ]
        with process(command, log, _accepts(found)):
            first.unlink()
            for database in databases:
                make_database(found, database)
            yield found


def make_database(server: Database | Postgres, name: str) -> str:
    """Make an empty database and return its URL."""
    with _administered(server) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return server.url(name)


@contextmanager
def _administered(server: Database | Postgres) -> Iterator[sqlalchemy.Connection]:
    first, driver = ("postgres", "+psycopg2") if server.kind == "postgresql" else ("", "+pymysql")
    url = server.url(first).replace(server.kind, server.kind + driver, 1)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _accepts(server: Database) -> Callable[[], bool]:
    def found() -> bool:
        try:
            with _administered(server):
                return True
        except sqlalchemy.exc.OperationalError:
            return False

    return found


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """rclone as an S3 server that checks signatures."""
    port, key, secret = free_port(), password(), password()
    objects = folder / "objects"
    objects.mkdir(parents=True)
    command: list[str | Path] = [BIN / "rclone", "serve", "s3", "--config", os.devnull, "--addr", f"127.0.0.1:{port}"]
    with process([*command, "--auth-key", f"{key},{secret}", objects], folder / "log", listens(port)):
        yield ObjectStore(f"http://127.0.0.1:{port}", port, key, secret, objects)


@contextmanager
def mlflow(folder: Path, database: str, objects: ObjectStore, bucket: str, port: int = 0) -> Iterator[Web]:
    """An MLflow server with basic auth, its runs in `database`, its artifacts through itself in a bucket."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Web(f"http://127.0.0.1:{port or (port := free_port())}", port, USER, password())
    ini = folder / "auth.ini"
    ini.touch(mode=0o600)
    lines = ("default_permission = READ", f"database_uri = sqlite:///{folder / 'auth.db'}", f"admin_username = {found.user}")
    ini.write_text("\n".join(["[mlflow]", *lines, f"admin_password = {found.password}", ""]))
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": password(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": objects.url,
        "AWS_ACCESS_KEY_ID": objects.key,
        "AWS_SECRET_ACCESS_KEY": objects.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_TRACKING_URI": "",
    }
    command: list[str | Path] = [
        BIN / "mlflow",
        "server",
        "--app-name",
        "basic-auth",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--backend-store-uri", database, "--artifacts-destination", f"s3://{bucket}", "--workers", "1"]
    with process(command, folder / "log", is_healthy(f"{found.url}/health"), environment):
        yield found


@contextmanager
def zenml(folder: Path, database: str) -> Iterator[Web]:
    """A ZenML server with an administrator, no Docker."""
    folder.mkdir(parents=True, exist_ok=True)
    assert (ZENML / "uvicorn").exists(), "ZenML's server is not installed: make .venv-zenml/.ready"
    port = free_port()
    found = Web(f"http://127.0.0.1:{port}", port, USER, password())
    environment = {
        "ZENML_STORE_TYPE": "sql",
        "ZENML_STORE_URL": database,
        "ZENML_CONFIG_PATH": str(folder / "config"),
        "ZENML_SERVER_AUTO_ACTIVATE": "1",
        "ZENML_DEFAULT_USER_NAME": found.user,
        "ZENML_DEFAULT_USER_PASSWORD": found.password,
        "ZENML_SERVER_DEPLOYMENT_TYPE": "other",
        "ZENML_SERVER_JWT_SECRET_KEY": password(),
        "ZENML_ANALYTICS_OPT_IN": "false",
    }
    command: list[str | Path] = [ZENML / "uvicorn", "zenml.zen_server.zen_server_api:app", "--host", "127.0.0.1"]
    with process([*command, "--port", str(port)], folder / "log", is_healthy(f"{found.url}/health"), environment):
        yield found
