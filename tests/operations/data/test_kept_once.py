"""A project keeps its data once, and one independent copy from which a damaged one is restored; unchanged data is not read."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.adapters import known_hashes
from openmlops.core.types import DatasetRef
from openmlops.files import sha256_of
from openmlops.operations.data import datasets
from openmlops.operations.projects.create import create
from openmlops.operations.workspace import Workspace
from unprivileged import user

DATABASES = ("mlflow.db", "openmlops.db", "zenml.db", "-wal", "-shm")
MODELS = ("artifacts", "exports", "mlflow-artifacts", "models", "weights")
"""folders whose files, like the databases, do not grow with the images and weigh as much as some hundred small ones"""
MOST = 2.1


def noise(folder: Path, images: int, side: int) -> Path:
    """Images that cannot be compressed, of two classes."""
    rng = np.random.default_rng(0)
    for number in range(images):
        place = folder / f"class{number % 2}" / f"{number:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(place)
    return folder


def used(paths: Iterable[Path]) -> int:
    """Bytes on the disk, those of hard links counted once."""
    states = [os.lstat(path) for path in paths]
    return sum({(state.st_dev, state.st_ino): state.st_blocks * 512 for state in states}.values())


def share(project: Path) -> float:
    """What a project without its databases and its models uses, in units of its data."""
    files = [
        path
        for path in project.rglob("*")
        if path.is_file() and not path.name.endswith(DATABASES) and not set(MODELS) & set(path.relative_to(project).parts)
    ]
    return used(files) / used(path for path in (project / "data" / "raw").rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project and the images of which it was made, for all tests; each gets a copy."""
    place = tmp_path_factory.mktemp("made")
    create(place / "noise", "classification", noise(place / "own", 40, 150))
    return place


@pytest.fixture
def ref(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetRef:
    copied(made / "noise", tmp_path)
    monkeypatch.chdir(tmp_path / "noise")
    return datasets.ingest(Workspace.open())


def copied(project: Path, to: Path) -> None:
    """With the hard links within it."""
    subprocess.run(["cp", "-a", project, to], check=True)


@pytest.fixture
def reads(ref: DatasetRef, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to be hashed, from here on."""
    paths: list[Path] = []
    read = known_hashes._read_file

    def noting(path: Path):  # type: ignore[no-untyped-def]
        paths.append(path)
        return read(path)

    monkeypatch.setattr(known_hashes, "_read_file", noting)
    return paths


def test_after_init_and_upload_the_data_is_on_the_disk_at_most_twice(ref: DatasetRef, tmp_path: Path) -> None:
    assert datasets.upload(Workspace.open(), ref).sent == 40
    assert share(tmp_path / "noise") <= MOST


def test_the_users_own_files_are_never_links_of_the_projects(made: Path) -> None:
    assert {path.stat().st_nlink for path in (made / "own").rglob("*.png")} == {1}
    assert all(path.stat().st_mode & 0o200 for path in (made / "own").rglob("*.png"))


def test_unchanged_data_is_not_read_to_be_hashed(ref: DatasetRef, reads: list[Path]) -> None:
    for _ in range(2):
        workspace = Workspace.open()  # as another process
        assert datasets.ingest(workspace) == ref
        datasets.upload(workspace, ref)
        assert datasets.status(workspace).differences == ()
    assert [path for path in reads if path.suffix == ".png"] == []
    assert datasets.check(Workspace.open()).passed
    assert len([path for path in reads if path.suffix == ".png"]) == 40, "a check reads everything, once"


def test_an_edit_in_place_is_replaced_everywhere(ref: DatasetRef, tmp_path: Path) -> None:
    workspace = Workspace.open()
    datasets.upload(workspace, ref)
    image = next(workspace.data_folder.rglob("*.png"))
    key = next(key for key in workspace.object_store.list("") if key.endswith(image.name))
    before = image.read_bytes()
    image.chmod(0o644)
    image.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    later = Workspace.open()
    assert datasets.status(later).differences == (
        f"{image.relative_to(workspace.data_folder)} differs from its recorded content (SHA-256)",
    )
    assert datasets.ingest(later) == ref
    datasets.upload(later, ref)
    assert image.read_bytes() == before
    assert later.object_store.get_file(key, tmp_path / "sent").read_bytes() == before
    assert share(tmp_path / "noise") <= MOST + 1, "what was replaced is kept aside"


def test_an_edit_in_place_that_is_added_leaves_the_stored_copy_of_the_old_version_as_it_was(
    ref: DatasetRef, tmp_path: Path
) -> None:
    workspace = Workspace.open()
    keys = datasets.upload(workspace, ref).keys
    sealed = workspace.data_versions.manifest(workspace.data_folder).files
    image = next(workspace.data_folder.rglob("*.png"))
    image.chmod(0o644)
    image.write_bytes(noise(tmp_path / "more", 1, 151).joinpath("class0", "0000.png").read_bytes())
    later = Workspace.open()
    added = datasets.add(later, later.data_folder)
    assert added.fingerprint != ref.fingerprint
    stored = {key.partition(f"{ref.fingerprint}/")[2]: later.home / "object-store" / key for key in keys}
    assert {name: sha256_of(path) for name, path in stored.items()} == {name: each.sha256 for name, each in sealed.items()}


def test_what_a_killed_command_left_beside_a_file_is_in_no_version(ref: DatasetRef) -> None:
    workspace = Workspace.open()
    image = next(workspace.data_folder.rglob("*.png"))
    (left := image.with_name(f".{image.name}.0123abcd")).write_bytes(b"half")
    (own := image.with_name(".own")).write_bytes(b"a person's")
    assert datasets.add(workspace, workspace.data_folder).fingerprint == ref.fingerprint
    assert (left.exists(), own.exists()) == (False, True)
    assert left.name not in "".join(path.read_text() for path in (workspace.home / "dvc-cache").rglob("*.dir"))


def test_a_copy_of_a_project_shares_nothing_with_its_origin(ref: DatasetRef, tmp_path: Path) -> None:
    datasets.upload(Workspace.open(), ref)
    copied(tmp_path / "noise", tmp_path / "copy")
    inodes = [{path.stat().st_ino for path in (tmp_path / name).rglob("*") if path.is_file()} for name in ("noise", "copy")]
    assert not inodes[0] & inodes[1]
    with chdir(tmp_path / "copy"):
        assert datasets.ingest(Workspace.open()).fingerprint == ref.fingerprint
    assert share(tmp_path / "copy") <= MOST, "cp -a keeps the links within it"


def test_a_project_of_an_earlier_release_uses_less_after_the_next_upload(ref: DatasetRef, tmp_path: Path) -> None:
    """Its object store held copies."""
    datasets.upload(Workspace.open(), ref)
    for path in (tmp_path / "noise" / ".openmlops" / "object-store").rglob("*.png"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert datasets.upload(Workspace.open(), ref).sent == 0
    assert share(tmp_path / "noise") <= MOST


def test_a_user_other_than_root_replaces_and_removes_read_only_files(ref: DatasetRef, tmp_path: Path) -> None:
    first, second, third = sorted(Workspace.open().data_folder.rglob("*.png"))[:3]
    content = first.read_bytes()
    with user(tmp_path / "log") as someone:

        def run(words: list[str]) -> None:
            ended = someone.run(tmp_path / "noise", words)
            assert ended.code == 0, ended

        first.unlink()
        run(["data", "pull"])
        assert first.read_bytes() == content
        noise(tmp_path / "more", 1, 151)
        os.replace(tmp_path / "more" / "class0" / "0000.png", second)
        third.unlink()
        run(["data", "add", "data/raw/noise"])
        run(["data", "check"])
    assert datasets.ingest(Workspace.open()).rows == 39


@pytest.mark.slow
def test_after_init_and_train_the_data_is_on_the_disk_at_most_twice(tmp_path: Path) -> None:
    """The same, with all that a training writes: 200 images of 68 kB."""
    noise(tmp_path / "own", 200, 150)
    command = [sys.executable, "-m", "openmlops"]
    for words, place in (
        (["init", "noise", "--kind", "classification", "--data", "own"], tmp_path),
        (["train", "--epochs", "1"], tmp_path / "noise"),
    ):
        subprocess.run([*command, *words], cwd=place, check=True, capture_output=True)
    assert share(tmp_path / "noise") <= MOST
    shutil.rmtree(tmp_path / "own")
