"""Every step in an empty home of its own: the database, MLflow, DVC's remote and the object store are all that they share."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mlflow_tables import with_tables
from openmlops.adapters.evidently_report import EvidentlyReport
from openmlops.adapters.object_store import FolderStore
from openmlops.errors import DataError
from openmlops.files import sha256_of, write_text
from openmlops.operations.data import datasets, versions
from openmlops.operations.data import rows as opened
from openmlops.operations.monitoring.windows import WindowRef
from openmlops.operations.release import exporting, promotion, registration, scoring
from openmlops.operations.training import train as training
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings, quiet_libraries
from own_homes import CONFIG, OwnHomes, train, watch
from shapes import folders, pictures
from small_loop import send

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def workspace(place: Path, home: Path, raw: Path, objects: str = "objects") -> Workspace:
    """A home whose database, MLflow, DVC remote and object store are folders and files of `place`."""
    environment = {
        "OPENMLOPS_HOME": str(home),
        "DATA_RAW_DIR": str(raw),
        "ARTIFACTS_DIR": f"{home}/artifacts",
        "MONITORING_DIR": f"{home}/monitoring",
        "DATABASE_URL": f"sqlite:///{place}/openmlops.db",
        "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
        "DVC_REMOTE": f"{place}/dvc",
        "USE_CASE": "shapes:USE_CASE",
    }
    found = Workspace(Settings.load(environment, dotenv=home / ".env"))
    found.__dict__["object_store"] = FolderStore(place / objects)
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The home of a project with its first champion, trained in that one home, with an object store of its own."""
    quiet_libraries()
    place = tmp_path_factory.mktemp("servers")
    with_tables(place / "mlflow.db")
    found = workspace(place, place / "plain", place / "project" / "raw", "other-objects")
    for seed, (split, count) in enumerate((("train", 12), ("val", 6), ("test", 6))):
        folders(place / "own" / split, count, seed)
    datasets.add(found, place / "own")
    dataset = datasets.ingest(found)
    splits = datasets.split(found, datasets.validate(found, dataset).dataset, 0)
    trained = training.train(found, splits, training.preprocess(found, splits), CONFIG)
    evaluation = scoring.evaluate(found, trained)
    model = registration.register(found, exporting.export(found, trained, evaluation), trained, evaluation)
    promotion.promote(found, f"{model.name}/{model.version}", "the first", splits, force=True)
    return found


@pytest.fixture
def homes(plain: Workspace, tmp_path: Path) -> OwnHomes:
    place = plain.home.parent
    record = plain.data_versions.record(plain.data_folder)
    return OwnHomes(tmp_path, lambda home, raw: workspace(place, home, raw), record)


def test_steps_that_share_no_disk_make_the_same_version_bit_by_bit(plain: Workspace, homes: OwnHomes) -> None:
    alone = plain.registry.version(plain.model_name, 1)
    exported, model = train(homes)
    assert exported.run_id != alone.run_id
    assert exported.sha256 == alone.sha256, "the SHA-256 of the manifest of all files"
    assert model == alone, "which is why no second version is registered"


def test_steps_that_share_no_disk_judge_one_window(plain: Workspace, homes: OwnHomes) -> None:
    images = np.stack([image for each in pictures(10, 9).values() for image in each])
    send(plain, plain.registry.version(plain.model_name, 1), images)

    def drawn(found: Workspace, window: WindowRef) -> EvidentlyReport:
        sha256_of(window.local(found))
        names = {"html": "evidently_report.html", "json_": "evidently_report.json"}
        files = {name: write_text(window.folder(found) / file, f"the {name} of {window.n}") for name, file in names.items()}
        kept = {name: found.contents.keep("report", path) for name, path in files.items()}
        return EvidentlyReport(share_of_drifted_columns=0.0, **kept)

    outcome = watch(homes, drawn, NOW)
    assert outcome.n == 30
    assert plain.decisions.get(outcome.decision.id).span.n == 30
    run = outcome.model.run_id
    logged = plain.tracking.read_files(run, f"monitoring/{outcome.decision.id}")
    assert {"inference.parquet", "monitoring.json", "evidently_report.json"} <= set(logged)
    assert logged["evidently_report.json"] == b"the json_ of 30"
    assert {Path(file).name for file in outcome.files} >= {"evidently_report.html"}, "fetched, though it is not logged"
    kinds = {path.name for path in (plain.home.parent / "objects" / "content").iterdir()}
    assert "report" not in kinds, "after the last step nobody needs it"


def test_what_nobody_has_any_more_is_named_with_what_to_do(plain: Workspace, homes: OwnHomes) -> None:
    with homes.step(is_first=True) as found:
        dataset = homes.handed(datasets.ingest(found))
        record = f"{versions.RECORDS}/{dataset.fingerprint}"
        for key in found.object_store.list(f"{record}/"):
            found.object_store.delete(key)
    with (
        homes.step() as found,
        pytest.raises(DataError, match=r"its record is not in the object store: .*Run the pipeline again"),
    ):
        datasets.validate(found, dataset)


def test_a_data_folder_that_was_edited_meanwhile_is_not_the_version(plain: Workspace, tmp_path: Path) -> None:
    place = plain.home.parent
    found = workspace(place, tmp_path / "state", tmp_path / "raw")
    shutil.copytree(plain.data_folder.parent, tmp_path / "raw")
    dataset = datasets.ingest(found)
    victim = next(found.data_folder.rglob("*.png"))
    before = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(before + b"edited")
    opened._opened.clear()
    restored = versions.local(found, dataset)
    assert restored == found.home / "versions" / dataset.fingerprint / found.data_folder.name
    assert (restored / victim.relative_to(found.data_folder)).read_bytes() == before
    assert victim.read_bytes() == before + b"edited", "the edit is kept"
    (copy := restored / victim.relative_to(found.data_folder)).unlink()
    copy.write_bytes(b"damaged")
    assert versions.local(found, dataset) == restored
    assert copy.read_bytes() == before
    assert not (found.home / "replaced").exists()
