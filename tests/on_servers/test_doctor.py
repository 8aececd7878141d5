"""The doctor: each way in which a service can be wrong gets one line with its remedy, and exit code 1 where it matters."""

import json
import socket
from pathlib import Path

import pytest
import sqlalchemy
from stacks import Servers, folder_with

import real_servers
from user_folder import Folder


@pytest.fixture
def folder(servers: Servers, tmp_path: Path) -> Folder:
    return folder_with(
        tmp_path / "user", servers.environment(servers.postgresql, servers.mlflow, f"d{abs(hash(tmp_path)) % 10**8}")
    )


def examined(folder: Folder, **changed: str) -> dict[str, dict[str, str]]:
    """Service -> what the doctor says of it, with some settings changed."""
    folder.environment.update(changed)
    done = folder.run("doctor", "--json")
    assert "Traceback" not in done.stderr
    found = {finding["service"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == int(any(finding["status"] == "failed" for finding in found.values()))
    return found


def test_every_service_is_well(folder: Folder) -> None:
    found = examined(folder)
    assert {finding["status"] for finding in found.values()} == {"ok"}
    assert "PostgreSQL" in found["database"]["says"]
    assert "credentials accepted" in found["mlflow"]["says"]
    assert "does not exist yet" in found["object store"]["says"]


@pytest.mark.parametrize(
    ("service", "setting", "value", "remedy"),
    [
        ("database", "DATABASE_URL", "postgresql://openmlops:wrong@127.0.0.1:{postgresql}/mlflow", "DATABASE_URL is correct"),
        ("database", "DATABASE_URL", "mysql://openmlops:wrong@127.0.0.1:{mariadb}/mlflow", "DATABASE_URL is correct"),
        ("database", "DATABASE_URL", "postgresql://openmlops:x@127.0.0.1:1/mlflow", "Check that it is running"),
        ("database", "DATABASE_URL", "oracle://x", "Set DATABASE_URL to"),
        ("mlflow", "MLFLOW_TRACKING_URI", "http://127.0.0.1:1", "Start it"),
        ("mlflow", "MLFLOW_TRACKING_URI", "{objects}", "MLFLOW_TRACKING_URI"),
        ("mlflow", "MLFLOW_TRACKING_PASSWORD", "wrong", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("object store", "MINIO_ENDPOINT_URL", "http://127.0.0.1:1", "Start it"),
        ("object store", "MINIO_SECRET_KEY", "wrong", "MINIO_ACCESS_KEY and MINIO_SECRET_KEY"),
        ("object store", "MINIO_BUCKET", "No Bucket", "MINIO_BUCKET"),
        ("zenml", "ZENML_STORE_URL", "http://127.0.0.1:1", "Start it"),
        ("zenml", "ZENML_STORE_URL", "{mlflow}", "ZENML_STORE_URL"),
        ("zenml", "ZENML_STORE_PASSWORD", "wrong", "ZENML_STORE_USERNAME and ZENML_STORE_PASSWORD"),
        ("zenml", "ZENML_STORE_API_KEY", "ZENKEY_wrong", "ZENML_STORE_API_KEY"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy_and_the_rest_is_looked_at(
    servers: Servers, folder: Folder, service: str, setting: str, value: str, remedy: str
) -> None:
    ports = {"postgresql": servers.postgresql.port, "mariadb": servers.mariadb.port}
    given = value.format(**ports, objects=servers.objects.url, mlflow=servers.mlflow.url)
    found = examined(folder, **{setting: given})
    assert [name for name, finding in found.items() if finding["status"] == "failed"] == [service]
    assert remedy in found[service]["remedy"]
    assert "wrong" not in found[service]["says"]


def test_a_port_that_answers_nothing_takes_seconds_not_minutes(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = examined(folder, MLFLOW_TRACKING_URI=url, ZENML_STORE_URL=url)
    assert "ReadTimeout" in found["mlflow"]["says"] + found["zenml"]["says"]


def test_a_database_of_a_newer_openmlops_is_refused_and_an_older_one_told(
    servers: Servers, folder: Folder, tmp_path: Path
) -> None:
    folder.json("models")
    url = real_servers.make_database(servers.postgresql, f"n{abs(hash(tmp_path)) % 10**8}")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE openmlops_version (version_num varchar(32))")
        connection.exec_driver_sql("INSERT INTO openmlops_version VALUES ('9999')")
    assert "Upgrade OpenMLOps" in examined(folder, DATABASE_URL=url)["database"]["remedy"]
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE openmlops_version SET version_num = '0003'")
    assert "openmlops upgrade" in examined(folder, DATABASE_URL=url)["database"]["remedy"]
    engine.dispose()


def test_a_dotenv_file_that_others_can_read_is_a_warning(folder: Folder) -> None:
    (folder.path / ".env").chmod(0o644)
    found = examined(folder)
    assert (found["settings"]["status"], found["settings"]["remedy"]) == ("warning", "Run: chmod 600 .env")


def test_for_people_it_is_one_line_a_service(folder: Folder) -> None:
    lines = folder.run("doctor").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [
        *("settings", "home", "database", "mlflow", "ledger", "champion", "retention", "object", "zenml", "server")
    ]


def test_without_servers_it_needs_none(tmp_path: Path) -> None:
    found = examined(folder_with(tmp_path / "alone", {}))
    assert all("embedded" in found[service]["says"] for service in ("mlflow", "object store", "zenml"))
