"""The compose file on a real Docker Engine: built, brought up, trained, served, watched, restarted under load, restored.

One story in the order of the file, because an image of several gigabytes and seven servers are not made anew for each claim.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from compose_engine import Stack, require_engine, stack, wait
from sqlalchemy import create_engine, text

from openmlops.core.classification.task import CLASSIFICATION
from openmlops.operations.simulation.traffic import Stream, TrafficReport, send

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

MODEL, PEOPLE = "cifar10_cnn", "person_yolo"
SMALL = ("--set", "steps=60", "--set", "channels=16-32-64")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The first stack, healthy."""
    require_engine()
    with stack(tmp_path_factory.mktemp("clone")) as found:
        with found.timed("up"):
            found.up()
        yield found
        print("\nobject store:", found.environment["OBJECT_STORE_IMAGE"])
        print("seconds:", {what: round(seconds) for what, seconds in found.seconds.items()})


@pytest.fixture(scope="module")
def trained(servers: Stack) -> Stack:
    """The same with sample data and a first champion in service, trained inside."""
    servers.inside("app", "openmlops", "data", "sample", "cifar10")
    with servers.timed("train"):
        outcome = servers.ask("app", "train", *SMALL)
    assert outcome["verdict"]["outcome"] == "promote"
    servers.serves("SERVE_PORT", 1)
    return servers


def test_the_image_that_serves_is_below_500_megabytes(servers: Stack) -> None:
    image = servers.compose("images", "--quiet", "serve").stdout.strip()
    assert int(servers.run("docker", "image", "inspect", "--format", "{{.Size}}", image).stdout) < 500e6


def test_no_process_of_a_server_runs_as_root(servers: Stack) -> None:
    """The first process of our images is Docker's init, and it too has our user."""
    for service in ("postgres", "object-store", "mlflow", "zenml-server", "app", "serve"):
        container = servers.compose("ps", "--quiet", service).stdout.strip()
        users = servers.run("docker", "top", container, "-eo", "pid,uid").stdout.split()[3::2]
        assert "0" not in users, f"{service}: {users}"


def test_the_services_take_the_credentials_of_env(servers: Stack) -> None:
    findings = servers.ask("app", "doctor", "--server", "http://serve:8000")["findings"]
    assert {found["service"] for found in findings if found["status"] == "failed"} == set()
    assert len(findings) >= 7


def test_a_champion_trained_inside_is_served_and_what_is_asked_of_it_is_found_clean(trained: Stack) -> None:
    report = trained.ask("app", "traffic", "--url", "http://serve:8000", "--rate", "100", "--seconds", "6s", "--labels")
    assert (report["failed"], report["versions"]) == (0, {"1": report["answered"]})
    assert report["labelled"] == report["answered"] >= 500
    with trained.timed("monitor"):
        seen = trained.ask("app", "monitor")
    assert seen["drift"]["outcome"] == "no_drift"
    assert seen["labelled"]["accuracy"]["value"] > 0.1


def test_simulated_drift_is_found(trained: Stack) -> None:
    seen = trained.ask("app", "monitor", SIMULATE_DRIFT="1")
    assert seen["simulated"] is True
    assert seen["drift"]["outcome"] == "drift"


def test_nothing_that_was_answered_or_recorded_is_lost_while_every_container_restarts(trained: Stack) -> None:
    before = recorded(trained)
    with trained.timed("restarts"), load(trained) as reports:
        for service in ("postgres", "object-store", "mlflow", "zenml-server", "app", "serve"):
            trained.restart(service)
    answered = {answer for report in reports for answer in report.ids}
    assert len(answered) > 100
    assert recorded(trained) == before
    wait(lambda: answered <= logged(trained), 300)
    trained.serves("SERVE_PORT", 1)


@pytest.mark.slow
def test_after_the_restarts_training_works_as_before(trained: Stack) -> None:
    outcome = trained.ask("app", "train", *SMALL, "--seed", "1")
    assert outcome["model"]["version"] == 2


@pytest.mark.slow
def test_the_second_stack_trains_and_serves_people_on_mysql(trained: Stack) -> None:
    with trained.timed("up, mysql"):
        trained.up("--profile", "mysql")
    trained.inside("person", "openmlops", "data", "sample", "person")
    with trained.timed("train, person"):
        outcome = trained.ask("person", "train", "--epochs", "1", "--imgsz", "64")
    if outcome["verdict"]["outcome"] != "promote":  # one epoch may be too little for the gate
        trained.ask("person", "promote", f"{PEOPLE}/1", "--force", "--reason", "to serve it")
    trained.serves("SERVE_PERSON_PORT", 1)
    assert trained.ask("person", "history", PEOPLE)["entries"][-1]["champion"] == 1
    assert PEOPLE not in {row["name"] for row in trained.ask("app", "models")["models"]}
    tables = ("openmlops.ledger", "mlflow.model_versions", "zenml.pipeline_run")
    rows = "; ".join(f"SELECT count(*) > 0 FROM {table}" for table in tables)
    words = ("sh", "-c", f'MYSQL_PWD=$MYSQL_PASSWORD mysql --user=openmlops --skip-column-names --execute="{rows}"')
    assert trained.inside("mysql", *words).split() == ["1", "1", "1"]


@pytest.mark.slow
def test_a_backup_restored_into_an_empty_stack_has_the_same_history_and_serves_the_same_champion(trained: Stack) -> None:
    before, predictions, people = recorded(trained), logged(trained), trained.ask("person", "history", PEOPLE)
    champion = before["history"][-1]["champion"]
    with trained.timed("save and restore"):
        trained.run("deploy/backup.sh", "save", "backup")
        trained.compose("down", "--volumes", "--timeout", "5")
        trained.run("deploy/backup.sh", "restore", "backup")
    assert trained.ask("person", "history", PEOPLE) == people
    trained.serves("SERVE_PERSON_PORT", 1)
    assert recorded(trained) == before
    assert logged(trained) == predictions
    trained.serves("SERVE_PORT", champion)
    assert trained.ask("app", "data", "status")["differences"] == []
    trained.inside("app", "openmlops", "stack", "check")


@pytest.mark.slow
def test_a_stack_that_is_in_use_is_not_overwritten_by_a_backup(trained: Stack) -> None:
    refused = trained.run("deploy/backup.sh", "restore", "backup", checked=False)
    assert refused.returncode == 1
    assert "this stack is in use" in refused.stderr


def recorded(servers: Stack) -> dict[str, Any]:
    """The ledger, and MLflow's versions with their runs and scores."""
    return {
        "history": servers.ask("app", "history", MODEL)["entries"],
        "models": servers.ask("app", "models")["models"],
    }


def logged(servers: Stack) -> set[str]:
    """Ids of all answers in the log."""
    engine = create_engine(servers.database())
    with engine.connect() as connection:
        found = {str(row.id) for row in connection.execute(text("SELECT id FROM inference"))}
    engine.dispose()
    return found


@contextmanager
def load(servers: Stack) -> Iterator[list[TrafficReport]]:
    """Images from four clients for as long as the block lasts; what came back is in the list at its end."""
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    stream, stop, reports = Stream(images, np.zeros(64, np.int64), CLASSIFICATION), threading.Event(), []
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(
            send, servers.url("SERVE_PORT"), stream, seconds=900, rate=20, token=servers.secrets["API_TOKEN"], stop=stop
        )
        try:
            yield reports
        finally:
            stop.set()
            reports.append(running.result())
