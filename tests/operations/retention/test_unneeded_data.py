"""Data versions: those that nothing names go from cache, remote and object store; what others share or name stays."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import toy_promotion as toy
from filled_log import workspace
from openmlops.adapters.data_versions import OwnVersion
from openmlops.core.types import DatasetRef, Verdict
from openmlops.errors import DataCorrupt
from openmlops.operations.data import datasets
from openmlops.operations.retention.unneeded_data import prune_data
from openmlops.operations.retention.working_files import prune_working_files
from openmlops.operations.workspace import Workspace

if TYPE_CHECKING:
    from conftest import S3Server

LATER = datetime.now(UTC) + timedelta(days=100)


def add(found: Workspace, *names: str) -> OwnVersion:
    """A version of these files, one of which all versions share, uploaded as a training does."""
    folder = found.data_folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name in ("shared", *names):
        (folder / name).write_text(f"the content of {name}" * 100)
    manifest = found.data_versions.add(folder)
    datasets.upload(found, DatasetRef(name=toy.NAME, fingerprint=manifest.fingerprint, rows=1))
    return next(note for note in found.data_versions.own() if note.fingerprint == manifest.fingerprint)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return with_another_model(workspace(tmp_path, USE_CASE="toy_promotion:USE_CASE"))


def with_another_model(found: Workspace) -> Workspace:
    """A ledger that knows a model, of other data."""
    verdict = Verdict(outcome="reject", reasons=("made",), challenger=1, champion=None)
    found.ledger.append("another", 0, "reject", 1, "a test", ("made",), "d" * 64, "m" * 64, verdict, LATER)
    return found


def files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*") if "tmp" not in path.relative_to(folder).parts)


def stores(found: Workspace) -> list[int]:
    """Files in the cache, the remote and the object store."""
    return [files(found.home / name) for name in ("dvc-cache", "dvc-remote", "object-store")]


def test_versions_that_nothing_names_go_and_what_they_share_stays(world: Workspace):
    first, second, last = add(world, "a", "b"), add(world, "b", "c"), add(world, "d")
    assert [note.is_pushed_first for note in (first, second, last)] == [True] * 3
    before = stores(world)
    assert before == [8, 8, 8], "five files and three listings; copies per version"
    said = prune_data(world, LATER, dry=True)
    assert stores(world) == before
    done = prune_data(world, LATER)
    assert said == done
    assert (done.deleted, stores(world)) == (2, [3, 3, 2])
    assert done.bytes > 6 * 1700
    assert [note.fingerprint for note in world.data_versions.own()] == [last.fingerprint]
    assert world.data_versions.is_pushed(world.data_folder)
    assert world.data_versions.check(world.data_folder) == ()
    assert prune_data(world, LATER).deleted == 0


def test_the_data_of_a_champion_stays_and_can_be_restored(world: Workspace, tmp_path: Path):
    first = add(world, "a", "b")
    record = world.data_versions.record(world.data_folder)
    add(world, "c")
    verdict = Verdict(outcome="promote", reasons=("made",), challenger=1, champion=None)
    world.ledger.append(toy.NAME, 0, "promote", 1, "a test", ("made",), first.fingerprint, "m" * 64, verdict, LATER)
    add(world, "d")
    assert prune_data(world, LATER).deleted == 1
    assert world.data_versions.restore(record, tmp_path / "again").fingerprint == first.fingerprint


def test_young_ones_stay_and_zero_keeps_all(world: Workspace):
    add(world, "a")
    add(world, "b")
    assert prune_data(world, datetime.now(UTC) + timedelta(days=89)).deleted == 0
    assert prune_data(workspace(world.home.parent, RETENTION_UNUSED_DAYS="0"), LATER).deleted == 0


def test_what_somebody_else_pushed_first_stays_in_the_remote(world: Workspace):
    """Another home, with the same remote: the version is not ours to delete there, the copy in our cache is."""
    folder = world.home / "dvc-remote"
    old = add(world, "a")
    for path in (world.home / "data-versions").iterdir():
        path.unlink()
    again = add(world, "a")
    assert (again.listing, again.is_pushed_first) == (old.listing, False)
    add(world, "b")
    there = files(folder)
    assert prune_data(world, LATER).deleted == 1
    assert (files(folder), files(world.home / "dvc-cache")) == (there, 3)


def test_a_remote_and_a_version_of_a_users_own_are_left_alone(world: Workspace, tmp_path: Path):
    theirs = workspace(tmp_path, USE_CASE="toy_promotion:USE_CASE", DVC_REMOTE="theirs")
    add(world, "a")
    subprocess.run(["dvc", "remote", "add", "-q", "theirs", str(tmp_path / "elsewhere")], cwd=tmp_path, check=True, env=_path())
    assert not add(theirs, "b").is_pushed_first
    add(theirs, "c")
    pushed = files(tmp_path / "elsewhere")
    assert prune_data(theirs, LATER).deleted == 2
    assert (files(tmp_path / "elsewhere"), files(theirs.home / "dvc-cache")) == (pushed, 3)


def test_a_remote_that_a_user_names_by_its_address_is_left_alone(world: Workspace, tmp_path: Path):
    theirs = workspace(tmp_path, USE_CASE="toy_promotion:USE_CASE", DVC_REMOTE=str(tmp_path / "elsewhere"))
    for name in ("a", "b"):
        assert not add(theirs, name).is_pushed_first
    pushed = files(tmp_path / "elsewhere")
    assert prune_data(theirs, LATER).deleted == 1
    assert (files(tmp_path / "elsewhere"), files(theirs.home / "dvc-cache")) == (pushed, 3)


def _path() -> dict[str, str]:
    import sys

    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def test_a_bucket_is_pruned_as_a_folder_is(tmp_path: Path, s3_server: "S3Server", monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    secrets = {"MINIO_ACCESS_KEY": s3_server.access_key, "MINIO_SECRET_KEY": s3_server.secret_key}
    places = {"MINIO_ENDPOINT_URL": s3_server.endpoint, "MINIO_BUCKET": "retention"}
    given = places | {name: value.get_secret_value() for name, value in secrets.items()}
    found = with_another_model(workspace(tmp_path, USE_CASE="toy_promotion:USE_CASE", **given))
    found.object_store.ready()
    for names in (("a", "b"), ("b", "c"), ("d",)):
        add(found, *names)
    bucket = s3_server.folder / "retention"
    before = files(bucket / "dvc"), files(bucket / "data")
    assert before == (8, 16), "the copies have seals"
    assert prune_data(found, LATER, dry=True).bytes == prune_data(found, LATER).bytes > 6 * 1700
    assert (files(bucket / "dvc"), files(bucket / "data")) == (3, 4)
    assert found.data_versions.is_pushed(found.data_folder)


def test_what_a_git_commit_names_stays(world: Workspace):
    add(world, "a")
    place = world.data_folder.parent
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "toy.dvc"], ["commit", "-qm", "data"]):
        subprocess.run([*git, *command], cwd=place, check=True, capture_output=True)
    add(world, "b")
    add(world, "c")
    assert prune_data(world, LATER).deleted == 1


def test_what_git_does_not_say_stays(world: Workspace, monkeypatch: pytest.MonkeyPatch):
    """A repository of another user, as in a container; one that is damaged; no git at all."""
    add(world, "a")
    add(world, "b")
    (world.home.parent / ".git").mkdir()
    assert prune_data(world, LATER).deleted == 0
    monkeypatch.setenv("PATH", "/nowhere")
    assert prune_data(world, LATER).deleted == 0
    (world.home.parent / ".git").rmdir()
    assert prune_data(world, LATER).deleted == 1


def test_the_folder_of_another_project_with_the_same_home_keeps_its_version(world: Workspace):
    other = workspace(world.home.parent, USE_CASE="toy_promotion:USE_CASE", DATA_RAW_DIR=f"{world.home.parent}/other")
    both = add(other, "a")
    assert add(world, "a").places == tuple(sorted(str(each.data_folder.parent) for each in (world, other)))
    add(world, "b")
    add(world, "c")
    assert prune_data(world, LATER).deleted == 1
    assert both.fingerprint in {note.fingerprint for note in world.data_versions.own()}
    assert other.data_versions.is_pushed(other.data_folder)


def test_a_listing_that_cannot_be_read_keeps_all_files(world: Workspace):
    first = add(world, "a")
    add(world, "b")
    stranger = world.home / "dvc-cache" / "files" / "md5" / "ab" / f"{'c' * 30}.dir"
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.write_text("not a listing")
    before = files(world.home / "dvc-cache")
    with pytest.raises(DataCorrupt, match=f"ab{'c' * 30}.dir .* is not a DVC directory listing"):
        prune_data(world, LATER)
    assert files(world.home / "dvc-cache") == before
    assert first.fingerprint in {note.fingerprint for note in world.data_versions.own()}


def test_a_manifest_that_cannot_be_read_stops_it(world: Workspace):
    add(world, "a")
    add(world, "b")
    (world.data_folder.parent / "other.manifest.json").write_text("{")
    with pytest.raises(DataCorrupt):
        prune_data(world, LATER)
    assert len(world.data_versions.own()) == 2


def test_looking_at_an_empty_home_makes_nothing(world: Workspace, tmp_path: Path):
    assert prune_data(world, LATER, dry=True).deleted == 0
    assert not (tmp_path / ".dvc").exists()


def test_a_home_whose_ledger_and_mlflow_are_empty_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As of a cron job without DATABASE_URL and MLFLOW_TRACKING_URI."""
    monkeypatch.chdir(tmp_path)
    found = workspace(tmp_path, USE_CASE="toy_promotion:USE_CASE")
    add(found, "a", "b")
    add(found, "c")
    (weights := found.home / "weights" / f"{'a' * 32}.safetensors").parent.mkdir(parents=True)
    weights.touch()
    before = stores(found)
    for prune in (prune_data, prune_working_files):
        done = prune(found, LATER)
        assert done.deleted == 0
        assert "Are DATABASE_URL and MLFLOW_TRACKING_URI those of this home?" in done.why
    assert stores(found) == before
    assert weights.exists()
