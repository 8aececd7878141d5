"""What is read from MLflow's tables without MLflow is what MLflow says."""

import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from openmlops.adapters.mlflow_tables import REVISION, tables
from openmlops.adapters.registry import DATASET_TAG, SHA256_TAG, Registry
from openmlops.errors import ModelNotFound, RegistryError, ServiceUnavailable


@pytest.fixture
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


def version(client: MlflowClient, name: str, metrics: dict[str, float], **tags: str) -> str:
    """A version of a run; the run's id."""
    run = client.create_run("0").info.run_id
    for key, value in metrics.items():
        client.log_metric(run, key, 0.0, step=1)
        client.log_metric(run, key, value, step=2)
    client.create_model_version(name, f"runs:/{run}/model", run, tags=tags)
    return str(run)


def test_they_say_what_the_registry_says(client: MlflowClient, mlflow_uri: str, tmp_path: Path) -> None:
    for name in ("net", "empty", "other"):
        client.create_registered_model(name)
    runs = [
        version(client, "net", {"test_accuracy": 0.75, "loss": float("inf")}, **{SHA256_TAG: "a" * 64, DATASET_TAG: "d" * 64}),
        version(client, "net", {}),
        version(client, "net", {"test_accuracy": 0.5}, **{SHA256_TAG: "b" * 64}),
        version(client, "other", {"test_map50": 0.25}),
    ]
    client.delete_model_version("net", "2")
    client.delete_run(runs[3])
    client.set_registered_model_alias("net", "champion", "1")
    client.set_registered_model_alias("net", "staging", "3")
    client.register_prompt("asked", "a prompt is no model")
    found, registry = tables(mlflow_uri), Registry(mlflow_uri, tmp_path / "cache")
    assert found is not None
    assert found.models() == registry.models() == ("empty", "net", "other")
    for name in (*registry.models(), "none"):
        assert found.versions(name) == registry.versions(name)
        for alias in ("champion", "staging", "none"):
            assert found.alias(name, alias) == registry.alias(name, alias)
    assert [ref.version for ref in found.versions("net")] == [1, 3]
    assert found.version("net", 3) == registry.version("net", 3)
    for run in runs:
        assert found.run_metrics(run) == registry.run_metrics(run)


def test_a_metric_that_is_no_number_is_none_here_too(client: MlflowClient, mlflow_uri: str) -> None:
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", float("nan"))
    found = tables(mlflow_uri)
    assert found is not None
    assert str(found.run_metrics(run)) == str(client.get_run(run).data.metrics) == "{'loss': nan}"


@pytest.mark.parametrize("ask", ["version", "run_metrics"])
def test_what_is_not_there_is_refused_in_the_same_words(ask: str, mlflow_uri: str, tmp_path: Path) -> None:
    error, arguments = {"version": (ModelNotFound, ("net", 2)), "run_metrics": (RegistryError, ("5" * 32,))}[ask]
    said = []
    for asked in (tables(mlflow_uri), Registry(mlflow_uri, tmp_path / "cache")):
        with pytest.raises(error) as refused:
            getattr(asked, ask)(*arguments)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_an_experiment_is_there_until_it_is_deleted(client: MlflowClient, mlflow_uri: str) -> None:
    found = tables(mlflow_uri)
    assert found is not None
    assert not found.has_experiment("openmlops")
    experiment = client.create_experiment("openmlops")
    assert found.has_experiment("openmlops")
    client.delete_experiment(experiment)
    assert not found.has_experiment("openmlops")


def test_the_installed_mlflow_has_the_tables_that_are_known(mlflow_uri: str) -> None:
    """If this fails after an upgrade: look at what changed in MLflow's tables, then at the queries, then set REVISION."""
    with sqlite3.connect(mlflow_uri.removeprefix("sqlite:///")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def test_tables_of_another_revision_servers_and_no_file_are_left_to_mlflow(mlflow_uri: str, tmp_path: Path) -> None:
    assert tables("http://127.0.0.1:9") is None
    assert tables(f"sqlite:///{tmp_path}/none.db") is None
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(mlflow_uri.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'a later one'")
    assert tables(mlflow_uri) is None


def test_a_file_that_is_damaged_later_is_a_service_that_is_away(mlflow_uri: str) -> None:
    found = tables(mlflow_uri)
    assert found is not None
    Path(mlflow_uri.removeprefix("sqlite:///")).write_bytes(b"no database")
    with pytest.raises(ServiceUnavailable, match=r"MLflow at sqlite:///.* failed to handle a request \("):
        found.models()
