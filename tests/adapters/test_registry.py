"""A registered version is whole, measured and verifiable, or it is not there."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from openmlops.adapters.registry import DATASET_TAG, Registry
from openmlops.adapters.tracking import Epoch, Tracking
from openmlops.core.quality import ClassifierEpoch
from openmlops.core.types import ModelRef
from openmlops.errors import ModelCorrupt, ModelNotFound, OpenMLOpsError, RegistryError
from openmlops.files import MANIFEST, Manifest
from ports import free_port

TAGS = {DATASET_TAG: "d" * 64}


@pytest.fixture
def tracking(mlflow_uri: str, tmp_path: Path) -> Tracking:
    return Tracking(mlflow_uri, "openmlops", tmp_path / "artifacts")


@pytest.fixture
def registry(mlflow_uri: str, tmp_path: Path) -> Registry:
    return Registry(mlflow_uri, tmp_path / "cache")


NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def sealed(folder: Path, content: str = "weights") -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "model.onnx").write_text(content)
    (folder / "inner" / "reference.parquet").write_text("rows")
    Manifest.of(folder).write(folder / MANIFEST)
    return folder


def measured(tracking: Tracking) -> str:
    run_id = tracking.start("cifar10", {}, {})
    tracking.log_metrics(run_id, {"test_accuracy": 0.75}, NOON)
    return run_id


def register(registry: Registry, tracking: Tracking, folder: Path, content: str = "weights") -> ModelRef:
    return registry.register("net", measured(tracking), sealed(folder, content), TAGS)


def stored(tmp_path: Path, name: str) -> Path:
    (path,) = (tmp_path / "artifacts").rglob(name)
    return path


def test_a_version_carries_its_manifest_its_data_and_its_run(registry: Registry, tracking: Tracking, tmp_path: Path):
    run_id = measured(tracking)
    ref = registry.register("net", run_id, sealed(tmp_path / "out"), TAGS)
    sha256 = Manifest.of(tmp_path / "out").fingerprint
    assert ref == ModelRef(name="net", version=1, uri="models:/net/1", run_id=run_id, dataset="d" * 64, sha256=sha256)
    assert registry.version("net", 1) == ref
    details = registry.details(ref)
    assert (details.ref, details.metrics, details.aliases) == (ref, {"test_accuracy": 0.75}, ())


def test_a_version_whose_run_has_no_metrics_is_refused(registry: Registry, tracking: Tracking, tmp_path: Path):
    run_id = tracking.start("cifar10", {}, {})
    with pytest.raises(RegistryError, match="has no test metric"):
        registry.register("net", run_id, sealed(tmp_path / "out"), TAGS)
    assert (registry.versions("net"), registry.models()) == ((), ())


def test_a_version_that_was_trained_but_never_evaluated_is_refused(registry: Registry, tracking: Tracking, tmp_path: Path):
    run_id = tracking.start("cifar10", {}, {})
    numbers = dict.fromkeys(ClassifierEpoch.model_fields, 1)
    tracking.log_epochs(run_id, [Epoch.of(ClassifierEpoch(**numbers), NOON)])
    with pytest.raises(RegistryError, match="Evaluate the model"):
        registry.register("net", run_id, sealed(tmp_path / "out"), TAGS)
    assert registry.versions("net") == ()


def test_a_run_that_is_not_there_is_refused(registry: Registry, tmp_path: Path):
    with pytest.raises(RegistryError, match="There is no MLflow run"):
        registry.register("net", "f" * 32, sealed(tmp_path / "out"), TAGS)


def test_registering_one_run_twice_gives_one_version(registry: Registry, tracking: Tracking, tmp_path: Path):
    run_id = measured(tracking)
    first = registry.register("net", run_id, sealed(tmp_path / "a"), TAGS)
    again = registry.register("net", run_id, sealed(tmp_path / "b", "exported anew"), TAGS)
    assert (again, registry.versions("net")) == (first, (first,))


def test_a_folder_that_is_not_as_its_manifest_says_is_refused(registry: Registry, tracking: Tracking, tmp_path: Path):
    folder = sealed(tmp_path / "out")
    (folder / "model.onnx").write_text("WEIGHTS")
    with pytest.raises(ModelCorrupt, match=r"model\.onnx differs from its recorded content"):
        registry.register("net", measured(tracking), folder, TAGS)
    assert registry.versions("net") == ()


def test_a_folder_without_a_manifest_is_refused(registry: Registry, tracking: Tracking, tmp_path: Path):
    (sealed(tmp_path / "out") / MANIFEST).unlink()
    with pytest.raises(ModelCorrupt, match=r"manifest\.json"):
        registry.register("net", measured(tracking), tmp_path / "out", TAGS)


def test_fetched_files_are_the_registered_ones(registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str):
    ref = register(registry, tracking, tmp_path / "out")
    elsewhere = Registry(mlflow_uri, tmp_path / "another host")
    assert Manifest.of(elsewhere.fetch(ref)) == Manifest.of(tmp_path / "out")


def test_a_fetched_version_needs_no_artifact_store_again(registry: Registry, tracking: Tracking, tmp_path: Path):
    ref = register(registry, tracking, tmp_path / "out")
    shutil.rmtree(tmp_path / "artifacts")
    assert (registry.fetch(ref) / "model.onnx").read_text() == "weights"


def flip(path: Path) -> None:
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx", "reference.parquet", MANIFEST])
def test_damage_in_the_artifact_store_is_found_and_named(
    registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str, damage, name: str
):
    ref = register(registry, tracking, tmp_path / "out")
    damage(stored(tmp_path, name))
    with pytest.raises(ModelCorrupt, match=name):
        Registry(mlflow_uri, tmp_path / "empty cache").fetch(ref)
    assert not (tmp_path / "empty cache" / ref.sha256).exists()


def test_a_file_that_was_slipped_in_is_named(registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str):
    ref = register(registry, tracking, tmp_path / "out")
    stored(tmp_path, "model.onnx").with_name("extra.py").write_text("import os")
    with pytest.raises(ModelCorrupt, match=r"extra\.py is not in the manifest"):
        Registry(mlflow_uri, tmp_path / "empty cache").fetch(ref)


def test_a_manifest_that_was_rewritten_with_the_file_is_found(
    registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str
):
    ref = register(registry, tracking, tmp_path / "out")
    folder = stored(tmp_path, "model.onnx").parent
    flip(folder / "model.onnx")
    Manifest.of(folder).write(folder / MANIFEST)
    with pytest.raises(ModelCorrupt, match=r"manifest\.json differs from the registered one"):
        Registry(mlflow_uri, tmp_path / "empty cache").fetch(ref)


def test_a_whole_model_gone_from_the_store_is_an_error_of_ours(
    registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str
):
    ref = register(registry, tracking, tmp_path / "out")
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises(OpenMLOpsError, match=f"model-{ref.sha256[:12]}"):
        Registry(mlflow_uri, tmp_path / "empty cache").fetch(ref)


def test_a_damaged_local_copy_is_replaced(registry: Registry, tracking: Tracking, tmp_path: Path):
    ref = register(registry, tracking, tmp_path / "out")
    flip(registry.fetch(ref) / "model.onnx")
    assert (registry.fetch(ref) / "model.onnx").read_text() == "weights"


def test_a_version_that_somebody_else_registered_cannot_be_fetched(
    registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str
):
    register(registry, tracking, tmp_path / "out")
    MlflowClient(mlflow_uri, mlflow_uri).create_model_version("net", str(tmp_path / "out"))
    foreign = registry.version("net", 2)
    with pytest.raises(ModelCorrupt, match="cannot be verified"):
        registry.fetch(foreign)


def test_aliases_are_set_moved_read_and_taken_away(registry: Registry, tracking: Tracking, tmp_path: Path):
    first, second = (register(registry, tracking, tmp_path / name) for name in "ab")
    assert registry.alias("net", "champion") is None
    for ref in (first, second):
        registry.set_alias("net", "champion", ref.version)
        assert registry.resolve("net", "champion") == ref
    assert registry.details(second).aliases == ("champion",)
    registry.delete_alias("net", "champion")
    registry.delete_alias("net", "champion")
    assert registry.alias("net", "champion") is None


def test_what_is_not_there_is_named_with_the_remedy(registry: Registry, tracking: Tracking, tmp_path: Path):
    register(registry, tracking, tmp_path / "out")
    registry.set_alias("net", "staging", 1)
    with pytest.raises(ModelNotFound, match=r"'net' has no alias 'champion'.*staging"):
        registry.resolve("net", "champion")
    with pytest.raises(ModelNotFound, match="'net' has no version 7"):
        registry.resolve("net", "7")
    with pytest.raises(ModelNotFound, match="'other' has no alias 'champion'"):
        registry.resolve("other", "champion")
    with pytest.raises(ModelNotFound, match="'net' has no version 7"):
        registry.set_alias("net", "champion", 7)
    assert registry.alias("other", "champion") is None


def test_versions_are_listed_oldest_first(registry: Registry, tracking: Tracking, tmp_path: Path):
    for i in range(11):
        register(registry, tracking, tmp_path / str(i), content=str(i))
    assert [ref.version for ref in registry.versions("net")] == list(range(1, 12))
    assert registry.versions("other") == ()
    assert registry.models() == ("net",)


_KILLED = """
import os, signal, sys
from pathlib import Path
from openmlops.adapters import registry
point, uri, run_id, folder, cache = sys.argv[1:]
target, name = {"upload": (registry.MlflowClient, "log_artifacts"), "version": (registry.MlflowClient, "create_model_version"),
                "copy": (registry.Registry, "_download")}[point]
setattr(target, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
registry.Registry(uri, Path(cache)).register("net", run_id, Path(folder), {})
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["upload", "copy", "version"])
def test_a_killed_registration_leaves_no_version_and_can_be_done_again(
    registry: Registry, tracking: Tracking, tmp_path: Path, mlflow_uri: str, point: str
):
    run_id, folder = measured(tracking), sealed(tmp_path / "out")
    arguments = [point, mlflow_uri, run_id, str(folder), str(tmp_path / "cache")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], env={**os.environ}, timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert registry.versions("net") == ()
    assert registry.register("net", run_id, folder, TAGS).version == 1
    assert Manifest.of(registry.fetch(registry.version("net", 1))) == Manifest.of(folder)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server that keeps the artifacts itself."""
    port = free_port()
    options = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *options]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, process_group=0) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert process.poll() is None, "the MLflow server ended at once"
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=5).ok:
                return
        time.sleep(0.5)
    raise TimeoutError("the MLflow server did not start within 150 s")


@pytest.mark.slow
def test_a_server_keeps_the_same_promises(server: str, tmp_path: Path):
    tracking, registry = Tracking(server, "openmlops", tmp_path / "unused"), Registry(server, tmp_path / "cache")
    ref = register(registry, tracking, tmp_path / "out")
    again = registry.register("net", ref.run_id, tmp_path / "out", TAGS)
    registry.set_alias("net", "champion", ref.version)
    assert (again, registry.resolve("net", "champion"), registry.versions("net")) == (ref, ref, (ref,))
    assert Manifest.of(Registry(server, tmp_path / "elsewhere").fetch(ref)) == Manifest.of(tmp_path / "out")
    flip(next((tmp_path / "kept").rglob("model.onnx")))
    with pytest.raises(ModelCorrupt, match=r"model\.onnx"):
        Registry(server, tmp_path / "a third").fetch(ref)
    with pytest.raises(ModelNotFound, match="no version 9"):
        registry.version("net", 9)
    with pytest.raises(RegistryError, match="There is no MLflow run"):
        registry.run_metrics("f" * 32)
    assert not (tmp_path / "unused").exists()
