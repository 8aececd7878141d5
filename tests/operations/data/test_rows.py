"""Data sets of image files: read once, decoded once, and what a version's index knows is not looked for in its files again."""

import itertools
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlflow_tables import with_tables
from openmlops import files
from openmlops.core.images import decoding
from openmlops.core.images.decoding import png
from openmlops.core.types import SplitsRef
from openmlops.errors import DataCorrupt, DataError, DataInvalid
from openmlops.images.index import ImageIndex
from openmlops.images.lazy import LazyImages, pixels
from openmlops.operations.data import datasets, rows
from openmlops.operations.data.rows import index_path, rows_of, version_index
from openmlops.operations.projects.create import create
from openmlops.operations.release import error_pictures, exporting, registration, scoring
from openmlops.operations.training import train as training
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings
from shapes import folders

COUNT = 60
"""pictures of each class"""
opened: Counter[str] = Counter()
"""how often which file was opened since `counting` began"""
_watched: list[Path] = []
_numbers = itertools.count()


def _seen(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(str(_watched[0])):
        opened[arguments[0]] += 1


sys.addaudithook(_seen)


@contextmanager
def counting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[bytes]]:
    """Counts the opens of each file of `folder`, and how often which pixels are decoded."""
    decoded: Counter[bytes] = Counter()
    loaded = decoding._loaded

    def counted(image: Any, *held: int) -> Any:
        found = loaded(image, *held)
        decoded[found.tobytes()] += 1
        return found

    opened.clear()
    _watched.append(folder)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_loaded", counted)
        yield decoded
    _watched.clear()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return folders(tmp_path / "own", COUNT)


def project(tmp_path: Path, own: Path) -> Path:
    """A project of the user's own data; each has a name of its own, because its module stays imported."""
    place = tmp_path / f"mine_{next(_numbers)}"
    with_tables(place.with_name("tables") / "mlflow.db")
    create(place, "classification", own)
    shutil.copy(place.with_name("tables") / "mlflow.db", place / ".openmlops" / "mlflow.db")
    return place


def opened_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Its workspace, as commands have it in its folder."""
    monkeypatch.chdir(place)
    return Workspace(Settings.load({}, place / ".env"))


@pytest.fixture
def mine(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return opened_in(project(tmp_path, own), monkeypatch)


def prepared(found: Workspace) -> SplitsRef:
    ref = datasets.ingest(found)
    return datasets.split(found, datasets.validate(found, ref).dataset, 0)


def test_init_reads_each_of_the_users_files_once_and_a_training_decodes_each_once_more(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting(own, monkeypatch) as decoded:
        place = project(tmp_path, own)
    assert len(opened) == 3 * COUNT
    assert set(opened.values()) == {1}
    assert set(decoded.values()) == {1}
    assert len(decoded) == 3 * COUNT
    found = opened_in(place, monkeypatch)
    with counting(own, monkeypatch) as decoded:
        splits = prepared(found)
        preprocessing = training.preprocess(found, splits)
        assert not decoded, "the first step of the training is the first that decodes"
        trained = training.train(found, splits, preprocessing, {"epochs": 2, "width": 4, "batch_size": 20, "threads": 1})
        evaluation = scoring.evaluate(found, trained)
        export = exporting.export(found, trained, evaluation)
        registration.register(found, export, trained, evaluation)
    assert not opened
    again = [times for times in decoded.values() if times > 1]
    assert set(again) <= {2}
    assert len(again) <= error_pictures.MOST, "only the worst errors are decoded once more, for their pictures"
    assert len(decoded) == 3 * COUNT


def test_images_in_memory_and_on_demand_give_the_same_weights_bit_by_bit(
    mine: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = prepared(mine)
    found, indices = rows_of(mine, splits.dataset), datasets.indices_of(mine, splits)
    use_case = mine.use_case
    config = use_case.config(epochs=2, width=4, batch_size=20, threads=1)
    preprocessing = use_case.preprocess(found, indices["train"])
    assert isinstance(found.images, LazyImages)
    weights = []
    for name, images in (("on demand", found.images), ("in memory", pixels(found.images))):
        those = replace(found, images=images)
        model = use_case.build(config, preprocessing, those, indices["train"])
        use_case.fit(model, those, indices, config, folder=tmp_path / name, key="k", on_epoch=lambda metrics: None)
        weights.append(model.state_dict())
    assert all(np.array_equal(weights[0][name].numpy(), weights[1][name].numpy()) for name in weights[0])


def test_more_images_cost_what_is_new(mine: Workspace, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    larger = tmp_path / "larger"
    shutil.copytree(mine.data_folder, larger)
    draw = np.random.default_rng(5)
    new = [draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    for number, image in enumerate(new):
        (larger / "train" / "disc" / f"new{number}.png").write_bytes(png(image))
    with counting(larger, monkeypatch) as decoded:
        ref = datasets.add(mine, larger)
    assert ref.rows == 3 * COUNT + 4
    assert sorted(decoded) == sorted(image.tobytes() for image in new)
    assert len(rows_of(mine, ref).images) == ref.rows


def test_a_check_reads_every_file_and_finds_what_no_index_knows(mine: Workspace) -> None:
    assert datasets.check(mine).passed
    victim = next((mine.data_folder / "train" / "disc").iterdir())
    victim.write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    report = datasets.check(mine)
    assert not report.passed
    assert any("every pixel has the same value" in problem.what and victim.name in str(problem) for problem in report.problems)
    assert any(f"{victim.name}" in problem.what for problem in report.problems if problem.where == mine.data_folder.name)


def test_an_image_that_was_changed_without_a_trace_is_found_when_it_is_read(
    mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = prepared(mine)
    victim = next((mine.data_folder / "train" / "disc").iterdir())
    victim.unlink()
    victim.write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    with pytest.raises(DataCorrupt, match=rf"{victim.name} has changed since its version was made"):
        training.train(mine, splits, training.preprocess(mine, splits), {"epochs": 1, "width": 4, "batch_size": 20})
    victim.unlink()
    with pytest.raises(DataError, match=rf"{victim.name} cannot be read \(No such file or directory\)"):
        pixels(rows_of(mine, splits.dataset).images)


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 rubbish PAR1"])
def test_an_index_that_is_lost_or_damaged_is_made_again(damage: bytes | None, mine: Workspace) -> None:
    ref = datasets.ingest(mine)
    path = index_path(mine, ref.fingerprint)
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    rows._opened.clear()
    assert len(rows_of(mine, ref).labels) == ref.rows
    assert path.read_bytes() == before


def closed(monkeypatch: pytest.MonkeyPatch, *victims: Path) -> None:
    """Files that may not be read, as by their modes, which do not apply to root."""

    def opening(path: Path) -> Any:
        if path in victims:
            raise PermissionError(13, "Permission denied")
        return files.opened(path)

    monkeypatch.setattr("openmlops.images.index.opened", opening)


def test_what_could_not_be_read_once_is_read_when_it_can_be(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = datasets.ingest(mine).model_copy(update={"index": None})
    index_path(mine, ref.fingerprint).unlink()
    victim = next((mine.data_folder / "train" / "disc").iterdir())
    with monkeypatch.context() as patched:
        closed(patched, victim)
        found = version_index(mine, mine.data_folder, ref)
        assert found.problems[found.row(victim.relative_to(mine.data_folder).as_posix())]
    for _ in range(2):
        found = version_index(mine, mine.data_folder, ref)
        assert not any(found.problems)
        assert found.columns["sha256"].any(axis=1).all()


def test_a_training_names_the_command_whose_options_help(mine: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = datasets.ingest(mine).model_copy(update={"index": None})
    index_path(mine, ref.fingerprint).unlink()
    closed(monkeypatch, *sorted((mine.data_folder / "train" / "disc").iterdir())[:5])
    with pytest.raises(DataInvalid, match=rf"; `openmlops data add {mine.data_folder}` with --on-left-out skip goes on"):
        datasets.validate(mine, ref)


def test_an_index_is_made_again_only_of_the_files_of_its_version(mine: Workspace) -> None:
    ref = datasets.ingest(mine).model_copy(update={"index": None})
    before = ImageIndex.read(path := index_path(mine, ref.fingerprint))
    path.unlink()
    rows._opened.clear()
    victim = next((mine.data_folder / "train" / "disc").iterdir())
    victim.unlink()
    victim.write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    with pytest.raises(DataCorrupt, match=rf"{victim.name} has changed since its version was made"):
        version_index(mine, mine.data_folder, ref)
    assert not path.exists()
    assert len(rows_of(mine, ref).labels) == ref.rows, "of the version, restored beside the folder"
    after = ImageIndex.read(path)
    assert before is not None
    assert after is not None
    assert np.array_equal(before.columns["sha256"], after.columns["sha256"])


def test_an_index_for_which_there_is_no_room_stops_nothing_that_is_there(
    mine: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version is recorded first: without its index it is read anew."""
    before = datasets.ingest(mine)
    larger = tmp_path / "larger"
    shutil.copytree(mine.data_folder, larger)
    (larger / "train" / "disc" / "new.png").write_bytes(png(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)))

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device", str(index_path(mine, "x")))

    with monkeypatch.context() as patch:
        patch.setattr(rows.ImageIndex, "write", full)
        with pytest.raises(OSError, match="No space left"):
            datasets.add(mine, larger)
    rows._opened.clear()
    after = datasets.ingest(mine)
    assert after.rows == before.rows + 1


def test_the_splits_are_the_same_from_the_index_and_from_the_files(mine: Workspace) -> None:
    ref = datasets.ingest(mine)
    read = mine.use_case.read(mine.data_folder)
    found = rows_of(mine, ref)
    for name, chosen in mine.use_case.split(read, 3).items():
        assert np.array_equal(chosen, mine.use_case.split(found, 3)[name])
    assert np.array_equal(found.labels, read.labels)


def test_a_training_goes_on_with_its_version_when_other_data_is_added_meanwhile(mine: Workspace, tmp_path: Path) -> None:
    splits = prepared(mine)
    datasets.upload(mine, splits.dataset)
    before = pixels(rows_of(mine, splits.dataset).images)
    rows._opened.clear()
    found = rows_of(mine, splits.dataset)
    other = datasets.add(mine, folders(tmp_path / "other", COUNT, seed=7))
    assert other.fingerprint != splits.dataset.fingerprint
    after = pixels(found.images)
    assert len(after) == len(before)
    assert all(map(np.array_equal, after, before))
