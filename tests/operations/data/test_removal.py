"""Images that a person takes out of the data set are in no new version; earlier ones keep them, nothing brings them back."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mlflow_tables import with_tables
from openmlops.adapters.decisions import DecisionRecord, Outcome
from openmlops.adapters.inference_log import Entries, Layout
from openmlops.adapters.input_store import sha256_of
from openmlops.core.images.decoding import png
from openmlops.errors import DataError, DataInvalid
from openmlops.operations.data import datasets, versions
from openmlops.operations.data.removal import Which, read_list, remove
from openmlops.operations.projects.create import create
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from shapes import NAMES, folders, pictures

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
_numbers = itertools.count()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A project of one's own data; its name is its own, because its module stays imported."""
    place = tmp_path / f"removal_{next(_numbers)}"
    create(place, "classification", folders(tmp_path / "own", 30))
    with_tables(place / ".openmlops" / "mlflow.db")
    monkeypatch.chdir(place)
    return Workspace(Settings.load({}, place / ".env"))


def files_of(workspace: Workspace) -> set[str]:
    assert workspace.use_case.files is not None
    return set(workspace.use_case.files(workspace.data_folder))


def retrained_on_production(workspace: Workspace, place: Path, count: int = 4) -> str:
    """Let images that clients sent, an hour apart, be labelled and added as a retraining does; the new version."""
    images = np.stack(pictures(count, seed=9)["disc"])
    layout = Layout(("x",), NAMES)
    ids = [f"00000000-0000-0000-0000-{row:012d}" for row in range(count)]
    predictions = np.tile(np.eye(len(NAMES), dtype=np.float32)[0], (count, 1))
    sent = Entries(
        model=workspace.model_name,
        version=1,
        layout=layout,
        ids=ids,
        at=[NOON + timedelta(hours=row) for row in range(count)],
        input_sha256=[sha256_of(png(image)) for image in images],
        features=np.zeros((count, 1), np.float32),
        predictions=workspace.use_case.task.pack(predictions),
        latency_ms=[1.0] * count,
    )
    workspace.inference_log.write([sent])
    for name in ids:
        workspace.inference_log.label(name, "disc", workspace.use_case.task.read_label, NOON)
    assert workspace.use_case.extend is not None
    labels = np.zeros(count, np.int64)
    made = datasets.add(workspace, workspace.use_case.extend(workspace.data_folder, images, labels, place))
    workspace.labelled_inputs.mark_used(ids, made.fingerprint, NOON)
    return made.fingerprint


def test_named_images_are_in_no_new_version_and_the_one_before_keeps_them(mine: Workspace) -> None:
    before, all_files = datasets.ingest(mine), files_of(mine)
    one, *others = sorted(path for path in all_files if path.startswith("train/disc/"))
    found = remove(mine, Which(paths=(one, "./train/square/", "train/triangle/*0*.png")), dry_run=True)
    assert found.dataset is None
    assert files_of(mine) == all_files
    with pytest.raises(DataInvalid, match="square"):  # a class without training images
        remove(mine, Which(paths=("train/square",)))
    assert datasets.ingest(mine) == before
    found = remove(mine, Which(paths=(one, others[0])))
    assert found.images == (one, others[0])
    assert found.dataset is not None
    assert files_of(mine) == all_files - {one, others[0]}
    assert found.dataset.rows == before.rows - 2
    assert datasets.ingest(mine).fingerprint == found.dataset.fingerprint != before.fingerprint


def test_what_names_no_image_is_refused(mine: Workspace) -> None:
    for which, said in (
        (Which(), "No images are named"),
        (Which(paths=("train/disc/no.png",)), r"No image of the data set is 'train/disc/no.png'. Give paths .* as in"),
        (Which(paths=("../own/disc/0000.png",)), r"No image of the data set is"),
        (Which(since=NOON), r"None of the .* images of the data set came from that decision or time"),
    ):
        with pytest.raises(DataError, match=said):
            remove(mine, which)


def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_list(tmp_path / "none.txt")
    (tmp_path / "list.txt").write_text("\ufefftrain/disc/0001.png\n\n train/disc/0002.png \n")
    assert read_list(tmp_path / "list.txt") == ("train/disc/0001.png", "train/disc/0002.png")


def test_production_images_are_found_by_when_they_were_sent_and_are_not_brought_back(mine: Workspace, tmp_path: Path) -> None:
    before = files_of(mine)
    retrained_on_production(mine, tmp_path / "added" / mine.use_case.folder)
    added = sorted(files_of(mine) - before)
    assert len(added) == 4
    found = remove(mine, Which(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=3)))
    assert list(found.images) == added[1:3]
    assert files_of(mine) - before == {added[0], added[3]}
    assert mine.labelled_inputs.count_new(mine.model_name) == 0


def test_production_images_are_found_by_the_decision_whose_retraining_added_them(
    mine: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(mine)
    dataset = retrained_on_production(mine, tmp_path / "added" / mine.use_case.folder)
    trained = Outcome(at=NOON, kind="reject", version=7)
    for name, action in (("a" * 12, "retrain"), ("b" * 12, "nothing")):
        record = DecisionRecord(
            id=name, model=mine.model_name, version=1, at=NOON, action=action, reasons=("drift",), by="a test"
        )
        mine.decisions.append(record)
    mine.decisions.outcome("a" * 12, trained)
    registered = SimpleNamespace(version=lambda name, version: SimpleNamespace(dataset=dataset if version == 7 else ""))
    monkeypatch.setattr(Workspace, "registered", registered)
    with pytest.raises(DataError, match="has trained no version"):
        remove(mine, Which(decision="bbbb"))
    assert set(remove(mine, Which(decision="aaaa")).images) == files_of_version(mine, dataset) - before


def files_of_version(workspace: Workspace, dataset: str) -> set[str]:
    """The images of an earlier version, which is kept."""
    ref = datasets.ingest(workspace).model_copy(update={"fingerprint": dataset})
    assert workspace.use_case.files is not None
    return set(workspace.use_case.files(versions.local(workspace, ref)))
