"""The server follows the ledger: promotions and rollbacks under load, and challengers that must never serve."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from clients import busy
from onnx import helper
from servers import PATIENT, Server, png, running
from versions import CLASSES, MODEL, OUTPUTS, World, export, images, write_onnx

from mlflow_tables import with_tables
from openmlops.adapters.database import connect
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.sqlite_file import exchange
from openmlops.errors import ModelCorrupt
from openmlops.files import Manifest
from openmlops.serving.predictor import load
from openmlops.usecases.cifar10 import USE_CASE

PNG = png(images(1)[0])


def swap_under_load(world: World, swaps: int, requests: int) -> None:
    world.promote(1)
    world.add(2)
    with running(world, limits=PATIENT) as server, busy(int(server.url.rpartition(":")[2])) as traffic:
        for turn in range(swaps):
            version = 2 - turn % 2
            world.promote(version, kind="promote" if version == 2 else "rollback")
            server.wait_until(lambda wanted=version: server.serving() == wanted)
            seen = traffic.requests
            server.wait_until(lambda before=seen: traffic.requests >= before + requests // swaps)
    assert traffic.failed == []
    assert traffic.dropped == 0
    assert traffic.requests >= requests
    assert set(traffic.acknowledged.values()) == {1, 2}
    assert world.logged(1, 2) == traffic.acknowledged


def test_swaps_under_load_fail_no_request_and_the_log_names_the_version_that_answered(world):
    swap_under_load(world, swaps=6, requests=600)


@pytest.mark.slow
def test_a_hundred_swaps_under_load_fail_no_request_of_ten_thousand(world):
    swap_under_load(world, swaps=100, requests=10_000)


def test_a_rejected_challenger_changes_nothing(world):
    world.promote(1)
    world.add(2)
    with running(world) as server:
        world.promote(2, kind="reject")
        world.promote(3, kind="inconclusive")
        world.promote(1, kind="rollback")
        server.wait_until(lambda: server.client.get("/health/ready").json()["problem"] is None)
        assert server.predict(PNG).json()["model"]["version"] == 1


def test_yesterdays_database_does_not_put_yesterdays_champion_into_service(world):
    """Neither under a running server nor in one that starts; it is told, and can be meant."""
    world.promote(1)
    database, old = world.home / "openmlops.db", world.home / "old.db"
    with sqlite3.connect(database) as source, sqlite3.connect(old) as target:
        source.backup(target)
    world.promote(2)

    def tells(server: Server) -> bool:
        ready = server.client.get("/health/ready").json()
        return "lacks row 2, by which version 2 was put into service" in (ready["problem"] or "")

    with running(world) as server:
        server.wait_until(lambda: server.serving() == 2)
        exchange(database, old, world.home / "replaced.db")
        server.wait_until(lambda: tells(server))
        assert server.predict(PNG).json()["model"]["version"] == 2
    with running(world) as server:
        server.wait_until(lambda: tells(server))
        assert server.predict(PNG).json()["model"]["version"] == 2
        Ledger(connect(world.url)).begin_anew(MODEL, datetime.now(UTC))
        server.wait_until(lambda: server.serving() == 1)


# Broken challengers: what is wrong before the version is sealed (its hash is right), and after (it is not)


def rewrite(change: Callable[[onnx.ModelProto], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model)
        onnx.save(model, folder / "model.onnx")

    return spoil


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Softmacks"


def answer_nan(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.full(len(CLASSES), np.nan, np.float32), "b"))


def no_softmax(model: onnx.ModelProto) -> None:
    model.graph.node[-1].CopyFrom(helper.make_node("Relu", ["logits"], ["probabilities"]))


def golden_changed(folder: Path) -> None:
    with np.load(folder / "golden.npz") as stored:
        changed = {**stored, "probabilities": stored["probabilities"][:, ::-1]}
    np.savez(folder / "golden.npz", **changed)


def golden_empty(folder: Path) -> None:
    with np.load(folder / "golden.npz") as stored:
        np.savez(folder / "golden.npz", **{name: stored[name][:0] for name in stored})


def golden_pickled(folder: Path) -> None:
    np.savez(folder / "golden.npz", images=np.array([{"a": 1}], dtype=object))


def classes(found: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.json").write_text(json.dumps({"classes": found})) and None


BROKEN_BEFORE_SEALING: dict[str, Callable[[Path], None]] = {
    "other weights than the golden batch": lambda folder: write_onnx(folder / "model.onnx", seed=99),
    "an operator that nobody knows": rewrite(unknown_operator),
    "answers that are NaN": rewrite(answer_nan),
    "probabilities that are none": rewrite(no_softmax),
    "another image size": lambda folder: write_onnx(folder / "model.onnx", seed=2, side=64),
    "an output of another name": lambda folder: write_onnx(folder / "model.onnx", 2, outputs=(*OUTPUTS[:2], "vector")),
    "more classes than names": lambda folder: write_onnx(folder / "model.onnx", seed=2, classes=12),
    "no model": lambda folder: (folder / "model.onnx").unlink(),
    "an empty model": lambda folder: (folder / "model.onnx").write_bytes(b"") and None,
    "no golden batch": lambda folder: (folder / "golden.npz").unlink(),
    "a golden batch of other answers": golden_changed,
    "a golden batch without images": golden_empty,
    "a golden batch that is a pickle": golden_pickled,
    "no description": lambda folder: (folder / "model.json").unlink(),
    "a description that is no JSON": lambda folder: (folder / "model.json").write_text("{") and None,
    "classes that are numbers": classes([1, 2]),
    "classes of one name": classes(["cat"] * 10),
    "no classes": classes([]),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BROKEN_AFTER_SEALING: dict[str, Callable[[Path], None]] = {
    "a flipped byte": lambda folder: flip(folder / "model.onnx"),
    "a cut file": lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1]) and None,
    "a missing file": lambda folder: (folder / "golden.npz").unlink(),
    "a file too many": lambda folder: (folder / "extra.txt").write_text("x") and None,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a manifest of another version": lambda folder: flip(folder / "manifest.json"),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("spoil", BROKEN_AFTER_SEALING.values(), ids=BROKEN_AFTER_SEALING.keys())
def test_files_that_are_not_the_registered_ones_are_not_loaded(world, spoil):
    sha256 = world.add(1)
    spoil(world.folder(1))
    with pytest.raises(ModelCorrupt):
        load(world.folder(1), sha256, MODEL, 1, USE_CASE, threads=1, at_once=lambda height, width: 4)


def test_no_broken_challenger_serves(world):
    """18 kinds, one after the other, on one server: version 1 goes on answering, and each refusal is told and counted."""
    world.promote(1)
    with running(world) as server:
        for number, (kind, spoil) in enumerate(BROKEN_BEFORE_SEALING.items(), start=2):
            world.add(number, spoil)
            world.promote(number)
            server.wait_until(lambda n=number: f"version {n} was rejected" in (told(server)["problem"] or ""))
            answer = server.predict(PNG).json()
            assert (told(server)["champion"], told(server)["serving"], answer["model"]["version"]) == (number, 1, 1), kind
        refused = re.search(r"^openmlops_load_failures_total (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
        assert float(refused[1]) >= len(BROKEN_BEFORE_SEALING)
        assert server.client.get("/health/ready").status_code == 200
        world.promote(1, kind="rollback")
        server.wait_until(lambda: told(server)["problem"] is None)


def told(server) -> dict:
    return server.client.get("/health/ready").json()


def test_a_repaired_challenger_is_taken_into_service(world):
    world.promote(1)
    with_tables(world.home / "mlflow.db")
    with running(world) as server:
        world.add(2)
        aside = world.home / "aside"
        world.folder(2).rename(aside)
        world.promote(2)
        server.wait_until(lambda: "version 2 was rejected" in (told(server)["problem"] or ""))
        aside.rename(world.folder(2))
        server.wait_until(lambda: server.serving() == 2)
        assert told(server)["problem"] is None


def test_a_broken_ledger_does_not_change_what_is_served(world):
    world.promote(1)
    with running(world) as server:
        with sqlite3.connect(world.home / "openmlops.db") as database:
            database.execute("UPDATE ledger SET version = 7, champion = 7")
        server.wait_until(lambda: "ledger" in (told(server)["problem"] or ""))
        assert server.predict(PNG).json()["model"]["version"] == 1


def test_a_version_that_is_not_here_is_fetched_from_the_registry(world):
    """In a process of its own: the server itself never imports MLflow."""
    from openmlops.adapters.mlflow_client import connect
    from openmlops.adapters.registry import DATASET_TAG, Registry

    uri = f"sqlite:///{with_tables(world.home / 'mlflow.db')}"
    client = connect(uri)
    experiment = client.create_experiment("tests", artifact_location=str(world.home / "artifacts"))
    run = client.create_run(experiment)
    client.log_metric(run.info.run_id, "test_accuracy", 0.5)
    folder = export(world.home / "exported", seed=1)
    Manifest.of(folder).write(folder / "manifest.json")
    model = Registry(uri, world.home / "elsewhere").register(MODEL, run.info.run_id, folder, {DATASET_TAG: "0" * 64})
    world.sha256[model.version] = model.sha256
    world.promote(model.version)
    with running(world) as server:
        assert server.serving() == model.version
        assert server.predict(PNG).status_code == 200
    assert (world.home / "models" / model.sha256 / "model.onnx").is_file()


def test_the_server_loads_neither_torch_nor_zenml_nor_mlflow(world):
    world.promote(1)
    script = f"""
import asyncio, sys
from pathlib import Path
from openmlops.serving.app import create_app
from openmlops.serving.config import ServingConfig

app = create_app(ServingConfig(model={MODEL!r}, use_case="cifar10", home=Path({str(world.home)!r}),
                               database_url={world.url!r}, tracking_uri="sqlite://"))

async def once():
    async with app.router.lifespan_context(app):
        assert app.state.services.deployment.state().serving == 1

asyncio.run(once())
assert not {{"torch", "zenml", "mlflow", "dvc", "evidently", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
