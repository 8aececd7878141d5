"""What goes from MLflow and from the working files, and what stays although it is old: with a real store of MLflow."""

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from filled_log import MODEL, NOW, workspace
from mlflow_tables import with_tables
from openmlops.adapters.decisions import DecisionRecord
from openmlops.adapters.mlflow_client import connect
from openmlops.adapters.mlflow_disposal import Disposal
from openmlops.adapters.moved_home import repair
from openmlops.adapters.registry import DATASET_TAG
from openmlops.core.types import ModelRef, Verdict
from openmlops.files import MANIFEST, Manifest, write_text
from openmlops.operations.release import listing
from openmlops.operations.retention.prune import prune
from openmlops.operations.retention.versions import prune_reports, prune_runs, prune_versions, rejected
from openmlops.operations.retention.working_files import prune_working_files
from openmlops.operations.workspace import Workspace

LATER = datetime.now(UTC) + timedelta(days=100)
KINDS = {1: "promote", 2: "reject", 3: "inconclusive", 4: "promote", 5: "reject", 6: "reject", 7: "reject"}
"""version -> what the gate said; version 8 was never judged"""


def start(found: Workspace, name: str = f"{MODEL}-abcdef12", tags: dict[str, str] | None = None, end: bool = True) -> str:
    run_id = found.tracking.start(name, {}, {"openmlops.dataset": "d" * 64, **(tags or {})})
    if end:
        found.tracking.finish(run_id)
    return run_id


def register(found: Workspace, number: int) -> ModelRef:
    run_id = start(found, end=False)
    folder = found.home / "exports" / run_id
    write_text(folder / "model.txt", f"model {number}" * 100)
    Manifest.of(folder).write(folder / MANIFEST)
    write_text(found.home / "weights" / f"{run_id}.safetensors", "weights")
    found.tracking.log_metrics(run_id, {"test_accuracy": 0.5}, NOW)
    ref = found.registry.register(MODEL, run_id, folder, {DATASET_TAG: "d" * 64})
    found.tracking.finish(run_id)
    return ref


def judge(found: Workspace, ref: ModelRef, kind: str, sha256: str = "") -> None:
    head = found.ledger.head(MODEL)
    verdict = Verdict(outcome=kind, reasons=("made",), challenger=ref.version, champion=None)
    found.ledger.append(
        model=MODEL, expected_sequence=head.sequence if head else 0, kind=kind, version=ref.version, actor="a test",
        reasons=("made",), dataset=ref.dataset, model_sha256=sha256 or ref.sha256, verdict=verdict, at=datetime.now(UTC),
    )  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight versions, of which two were promoted; do not write into it."""
    home = tmp_path_factory.mktemp("original")
    found = workspace(home)
    with_tables(home / "state" / "mlflow.db")
    for number in range(1, 9):
        ref = register(found, number)
        if number in KINDS:
            judge(found, ref, KINDS[number])
    return home


@pytest.fixture
def world(original: Path, tmp_path: Path) -> Workspace:
    """A copy of it, in which the latest two stay by the setting."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    found = workspace(tmp_path, RETENTION_VERSIONS="2")
    repair(found.home, None, ())
    _artifact_repos_cache.clear()  # MLflow would go on using the files of the original
    return found


def versions(found: Workspace) -> list[int]:
    return [ref.version for ref in found.registry.versions(MODEL)]


def client(found: Workspace) -> MlflowClient:
    return connect(found.settings.tracking_uri)


def all_runs(found: Workspace) -> set[str]:
    experiment = client(found).get_experiment_by_name("openmlops")
    return {run.info.run_id for run in client(found).search_runs([experiment.experiment_id], "", ViewType.ALL)}


def test_rejected_versions_go_with_their_runs_and_files_and_the_rest_stays(world: Workspace):
    world.registry.set_alias(MODEL, "mine", 5)
    gone = [ref for ref in world.registry.versions(MODEL) if ref.version in (2, 3, 6)]
    said = prune_versions(world, LATER, dry=True)
    assert versions(world) == list(range(1, 9))
    done = prune_versions(world, LATER)
    assert said == done
    assert versions(world) == [1, 4, 5, 7, 8]
    assert done.deleted == 3
    assert done.bytes > 3 * 700
    assert all_runs(world) & {ref.run_id for ref in gone} == set()
    artifacts = world.home / "mlflow-artifacts" / "openmlops"
    assert {path.name for path in artifacts.iterdir()} == all_runs(world)
    assert {entry.version for entry in world.ledger.history(MODEL)} == set(KINDS), "the ledger keeps its rows"
    assert [row.gone[:19] for row in listing.overview(world) if row.version == 2] == ["deleted from MLflow"]
    assert prune_versions(world, LATER).deleted == 0


def test_young_ones_stay_and_zero_keeps_all(world: Workspace):
    assert prune_versions(world, datetime.now(UTC) + timedelta(days=89)).deleted == 0
    forever = Workspace(world.settings.model_copy(update={"retention_unused_days": 0.0}))
    for kind in (prune_versions, prune_runs, prune_working_files):
        found = kind(forever, LATER)
        assert (found.deleted, found.why) == (0, "kept for ever: RETENTION_UNUSED_DAYS is 0")


def test_a_version_with_other_files_than_the_ledger_names_is_not_ours_to_delete(world: Workspace):
    judge(world, world.registry.version(MODEL, 2), "reject", sha256="f" * 64)
    assert {found.version for found in rejected(world, LATER)} == {3, 5, 6}


def test_a_version_stays_while_another_model_has_its_files(world: Workspace):
    ref = world.registry.version(MODEL, 2)
    client(world).create_registered_model("of-another-tool")
    client(world).create_model_version("of-another-tool", f"runs:/{ref.run_id}/model", ref.run_id)
    assert {found.version for found in rejected(world, LATER)} == {3, 5, 6}


def test_a_number_that_is_free_again_is_not_given_twice(world: Workspace):
    prune_versions(world, LATER)
    assert register(world, 9).version == 9


def test_a_deletion_that_was_killed_is_completed_by_the_next_one(world: Workspace, monkeypatch: pytest.MonkeyPatch):
    run = world.registry.version(MODEL, 2).run_id

    def die(*values: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as then:
        then.setattr(Disposal, "_dispose", die)
        with pytest.raises(KeyboardInterrupt):
            prune_versions(world, LATER)
    assert run in all_runs(world)
    prune_versions(world, LATER)
    assert run not in all_runs(world)
    assert not (world.home / "mlflow-artifacts" / "openmlops" / run).exists()


def test_a_run_that_a_person_deleted_is_left_to_that_person(world: Workspace):
    run = start(world)
    client(world).delete_run(run)
    prune_versions(world, LATER)
    prune_runs(world, LATER)
    assert run in all_runs(world)


def test_runs_without_a_version_go_unless_they_are_open_or_somebody_elses(world: Workspace):
    failed, grid, other = start(world), start(world, f"{MODEL} grid"), start(world, f"{MODEL}-v2-12345678")
    still_open = start(world, end=False)
    parent = start(world, f"{MODEL} grid")
    client(world).set_tag(world.registry.version(MODEL, 4).run_id, "mlflow.parentRunId", parent)
    said = prune_runs(world, LATER, dry=True)
    done = prune_runs(world, LATER)
    assert said == done
    assert done.deleted == 2
    assert all_runs(world) & {failed, grid, other, still_open, parent} == {other, still_open, parent}
    assert versions(world) == list(range(1, 9))


def decide(found: Workspace, run: str, name: str, at: datetime, action: str = "nothing") -> None:
    found.decisions.append(
        DecisionRecord(id=name, model=MODEL, version=4, at=at, action=action, reasons=("made",), by="a test")
    )
    found.tracking.log_text(run, "a page of a megabyte", f"monitoring/{name}/report.html")


def test_reports_of_monitoring_go_earlier_and_those_that_made_the_loop_act_later(world: Workspace):
    run, now = world.registry.version(MODEL, 4).run_id, datetime.now(UTC)
    decide(world, run, "old", now - timedelta(days=3))
    decide(world, run, "acted", now - timedelta(days=3), "retrain")
    decide(world, run, "young", now - timedelta(days=1))
    world.tracking.log_text(run, "of another database", "monitoring/unknown/report.html")
    said = prune_reports(world, now, dry=True)
    done = prune_reports(world, now)
    assert said == done
    assert (done.deleted, done.bytes) == (1, len("a page of a megabyte"))
    assert set(world.disposal.folders(run, "monitoring")) == {"acted", "young", "unknown"}
    assert prune_reports(world, LATER).deleted == 2
    assert versions(world) == list(range(1, 9))


def test_zero_keeps_all_reports_and_no_report_that_acted_goes_before_the_others(world: Workspace):
    run = world.registry.version(MODEL, 4).run_id
    decide(world, run, "acted", datetime.now(UTC), "retrain")
    for days in ("0", "200"):
        assert prune_reports(workspace(world.home.parent, RETENTION_REPORTS_DAYS=days), LATER).deleted == 0


def test_copies_and_remains_of_ended_trainings_go(world: Workspace):
    home, still_open = world.home, start(world, end=False)
    kept = {ref.version: world.registry.fetch(ref).name for ref in world.registry.versions(MODEL)}
    for name in (f"trainings/{'e' * 16}", f"grids/{'a' * 16}"):
        write_text(home / name / "run_id", "no such run")
        write_text(home / name / "checkpoint.pt", "tensors")
    write_text(home / "trainings" / ("0" * 16) / "run_id", still_open)
    write_text(home / "exports" / still_open / "model.txt", "not registered yet")
    write_text(home / "answers" / f"{kept[4]}-1.npz", "predictions")
    write_text(Path(tempfile.mkdtemp(prefix="verify-", dir=home)) / "weights", "of a killed process")
    recorded = world.data_versions.fingerprint(world.data_folder)
    for name in ("0" * 64, recorded or "1" * 64):
        write_text(home / "indexes" / f"{name}.parquet", "index")
    write_text(home / "replaced" / "cifar10" / "image.png", "somebody's work")
    prune_versions(world, LATER)
    said = prune_working_files(world, LATER, dry=True)
    done = prune_working_files(world, LATER)
    assert said == done
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and "mlflow" not in str(path)}
    assert {path for path in left if path.startswith(("trainings", "grids", "exports", "weights", "answers", "verify"))} == {
        f"trainings/{'0' * 16}/run_id", f"exports/{still_open}/model.txt",
    }  # fmt: skip
    assert {path.name for path in (home / "models").iterdir() if path.is_dir()} == {kept[v] for v in (1, 4, 7, 8)}
    assert "replaced/cifar10/image.png" in left
    assert {path for path in left if path.startswith("indexes")} == ({f"indexes/{recorded}.parquet"} if recorded else set())


def test_what_a_person_keeps_in_the_home_stays(world: Workspace):
    own = ("models/mine/model.pt", "weights/best.safetensors", "exports/2024/a.onnx", "labels-pictures/a.txt", "sample-1/a.png")
    for name in (*own, "splits/mine.npz", "trainings/mine/run_id", "answers/a.npz", "indexes/mine.parquet", "inputs/a.png"):
        write_text(world.home / name, "somebody's work")
    before = {path for path in world.home.rglob("*") if path.is_file() and path.read_bytes() == b"somebody's work"}
    assert prune(world, LATER).problems == ()
    assert {path for path in before if path.is_file()} == before


def test_exports_are_copies_after_a_day_and_nothing_else_is(world: Workspace):
    done = prune_working_files(world, datetime.now(UTC) + timedelta(days=2))
    assert done.deleted == 8
    assert not list((world.home / "exports").iterdir())
    assert len(list((world.home / "weights").iterdir())) == 8


def test_a_dry_run_of_everything_changes_no_file(world: Workspace):
    decide(world, world.registry.version(MODEL, 4).run_id, "old", datetime.now(UTC) - timedelta(days=3))

    def content() -> dict[Path, bytes]:
        found = (path for path in world.home.parent.rglob("*") if path.is_file())
        return {
            path: path.read_bytes() for path in found if path.suffix != ".lock" and not path.name.endswith(("-wal", "-shm"))
        }

    before = content()
    report = prune(world, LATER, dry=True)
    assert {each.what for each in report.pruned if each.deleted} == {"rejected versions", "monitoring reports", "working files"}
    assert content() == before


def test_looking_makes_no_store(tmp_path: Path):
    found = workspace(tmp_path)
    found.ledger.models()
    for kind in (prune_versions, prune_runs, prune_reports, prune_working_files):
        assert kind(found, LATER, True).deleted == 0
    assert not (tmp_path / "state" / "mlflow.db").exists()
