"""The object store is cut off in the middle of an upload, the database in the middle of a commit: each thing is done once."""

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from answer_cutter import AnswerCutter
from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Decisions, requested
from openmlops.adapters.leases import Leases
from openmlops.errors import ServiceUnavailable
from openmlops.files import Manifest, sha256_of
from openmlops.operations.data import datasets
from openmlops.operations.retries import retry
from openmlops.operations.workspace import Workspace
from postgres import Postgres, postgres
from small_loop import NOON
from small_loop import workspace as small_workspace
from tcp_proxy import TcpProxy


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def store(s3_server: Any) -> Iterator[TcpProxy]:
    """What lies between the workspace and the object store."""
    with TcpProxy(int(urlsplit(s3_server.endpoint).port or 0)) as proxy:
        yield proxy


def on(store: TcpProxy, s3_server: Any, home: Path, bucket: str) -> Workspace:
    return small_workspace(
        home,
        minio_endpoint_url=f"http://127.0.0.1:{store.port}",
        minio_access_key=s3_server.access_key.get_secret_value(),
        minio_secret_key=s3_server.secret_key.get_secret_value(),
        minio_bucket=bucket,
    )


def take_away(store: TcpProxy, outage: str) -> None:
    """For 15 seconds."""
    store.cut(within=200_000) if outage == "cut" else store.refuse()
    threading.Timer(15, store.forward).start()


@pytest.mark.parametrize("outage", ["cut", "refused"])
def test_an_upload_that_was_cut_off_is_finished_with_the_right_content(
    store: TcpProxy, s3_server: Any, tmp_path: Path, outage: str, capsys: pytest.CaptureFixture
) -> None:
    workspace = on(store, s3_server, tmp_path, f"upload-{outage}")
    dataset = datasets.make_sample(workspace)
    take_away(store, outage)
    report = retry(datasets.upload, workspace, dataset)
    assert "Waiting up to" in capsys.readouterr().err
    kept = {Path(key).name: workspace.object_store.get_file(key, tmp_path / "back" / Path(key).name) for key in report.keys}
    manifest = Manifest.of(workspace.data_folder)
    assert {name: sha256_of(path) for name, path in kept.items()} == {n: e.sha256 for n, e in manifest.files.items()}


@pytest.mark.parametrize("outage", ["cut", "refused"])
def test_data_whose_pull_was_cut_off_is_whole_afterwards(
    store: TcpProxy, s3_server: Any, tmp_path: Path, outage: str, capsys: pytest.CaptureFixture
) -> None:
    """DVC's remote lies in the same store."""
    workspace = on(store, s3_server, tmp_path, f"pull-{outage}")
    dataset = datasets.make_sample(workspace)
    shutil.rmtree(workspace.home / "dvc-cache")
    shutil.rmtree(workspace.data_folder)
    take_away(store, outage)
    assert retry(datasets.ingest, workspace) == dataset
    assert "Waiting up to" in capsys.readouterr().err
    assert Manifest.of(workspace.data_folder).fingerprint == dataset.fingerprint


def test_a_decision_whose_commit_was_answered_by_a_cut_is_one_record(server: Postgres) -> None:
    database = server.create()
    record = requested("toy", 1, "look", by="a person", now=NOON)
    with AnswerCutter(server.port, b"COMMIT") as cutter:
        decisions = Decisions(connect(server.url(database, cutter.port)))
        cutter.left = 1
        with pytest.raises(ServiceUnavailable):
            decisions.append(record)
        decisions.append(record)
    assert cutter.cut == 1
    assert Decisions(connect(server.url(database))).list("toy") == (record,)


def test_a_lease_is_held_again_after_its_database_was_away_for_longer_than_it_lasts(server: Postgres) -> None:
    database = server.create()
    connect(server.url(database)).dispose()
    with TcpProxy(server.port) as proxy:
        leases = Leases(connect(server.url(database, proxy.port)))
        with leases.holding("cycle/toy", "us", timedelta(seconds=3)) as held:
            proxy.refuse()
            threading.Event().wait(6)
            proxy.forward()
            threading.Event().wait(4)
            held.check()
            found = Leases(connect(server.url(database))).look("cycle/toy")
            assert (found.holder, found.term) == ("us", 1)
            proxy.refuse()  # and so its end does not hide how the block ended
