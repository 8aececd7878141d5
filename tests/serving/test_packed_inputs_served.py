"""A server that keeps its inputs in the object store: what it acknowledged is read on another machine, also after a kill."""

import hashlib
from pathlib import Path

import pytest
from servers import png, running, start
from versions import MODEL, World, images

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import InferenceLog
from openmlops.adapters.input_places import InputPlaces
from openmlops.adapters.input_store import InputStore
from openmlops.adapters.object_store import FolderStore
from openmlops.adapters.packed_inputs import PackedInputs
from openmlops.errors import SettingsError
from openmlops.serving import services
from openmlops.serving.config import ServingConfig

OBJECTS = {"inputs_store": "objects"}


@pytest.fixture
def promoted(world: World) -> World:
    world.promote(1)
    return world


def elsewhere(world: World, tmp_path: Path) -> PackedInputs:
    """As a machine has them that shares database and object store with the server, and no disk."""
    store = FolderStore(world.home / "object-store")
    return PackedInputs(store, InputPlaces(connect(world.url)), InputStore(tmp_path / "another home"))


def test_every_acknowledged_image_is_there_after_a_kill(promoted: World, tmp_path: Path) -> None:
    server = start(promoted, settings=OBJECTS)
    sent = {}
    try:
        for number in range(8):
            content = png(images(1, seed=number)[0])
            sent[server.predict(content).json()["prediction_id"]] = content
        several = [png(image) for image in images(5, seed=99)]
        files = [("file", (f"{i}.png", content)) for i, content in enumerate(several)]
        answers = server.client.post("/predict", files=files).json()["predictions"]
        sent |= {answer["prediction_id"]: content for answer, content in zip(answers, several, strict=True)}
    finally:
        server.kill()
    window, inputs = InferenceLog(connect(promoted.url)).window(MODEL, 1), elsewhere(promoted, tmp_path)
    assert set(window.ids) == sent.keys()
    assert {name: inputs.read(sha256) for name, sha256 in zip(window.ids, window.input_sha256, strict=True)} == sent
    packs = [path for path in (promoted.home / "object-store" / "inputs").rglob("*") if path.is_file()]
    assert len(packs) == 9, "one for each group: the five came as one"
    assert [path for path in (promoted.home / "inputs").rglob("*") if path.is_file() and not path.name.startswith(".")] == []


def test_a_store_that_refuses_is_told_and_nothing_is_acknowledged(promoted: World, tmp_path: Path) -> None:
    with running(promoted, settings=OBJECTS) as server:
        content = png(images(1, seed=5)[0])
        assert server.predict(content).status_code == 200
        folder = promoted.home / "object-store"
        folder.rename(folder.with_name("aside"))
        folder.write_text("no folder")
        assert server.predict(png(images(1, seed=6)[0])).status_code == 503
        server.wait_until(lambda: "cannot be stored" in str(server.client.get("/health/ready").json()["problem"]))
        folder.unlink()
        folder.with_name("aside").rename(folder)
        server.wait_until(lambda: server.client.get("/health/ready").json()["problem"] is None)
        assert server.predict(content).status_code == 200
    window = InferenceLog(connect(promoted.url)).window(MODEL, 1)
    assert window.input_sha256 == (hashlib.sha256(content).hexdigest(),) * 2


def test_without_a_client_of_s3_the_server_says_what_it_needs(promoted: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    given = {"model": MODEL, "use_case": "cifar10", "home": promoted.home, "database_url": promoted.url, "tracking_uri": ""}
    settings = {**OBJECTS, "minio_endpoint_url": "http://127.0.0.1:9"}
    config = ServingConfig.model_validate({**given, "settings": settings})
    with pytest.raises(SettingsError, match="INPUTS_STORE=objects needs boto3"):
        services._inputs(config, connect(promoted.url))
