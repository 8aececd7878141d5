"""The Python API: the same results as the commands, on images as programs hold them, and a light import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import openmlops
from openmlops.core.images.decoding import png
from openmlops.errors import DataError, LedgerConflict, ModelNotFound, OpenMLOpsError, SettingsError
from openmlops.operations.monitoring import prediction_export
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import inference
from openmlops.operations.workspace import Workspace
from small_loop import NOON, fresh_images, label, send


@pytest.fixture
def world(loop: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """A champion with 60 predictions, 20 of them labelled; the functions open this workspace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Workspace, "open", classmethod(lambda cls, use_case=None: loop))
    images, labels = fresh_images(60, seed=1)
    label(loop, send(loop, load_latest_model(loop), images)[:20], labels[:20])
    return loop


def test_importing_the_package_imports_nothing_heavy() -> None:
    tell = "import sys; before = set(sys.modules); import openmlops; print(sorted(set(sys.modules) - before))"
    names = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True).stdout
    found = {name.partition(".")[0] for name in json.loads(names.replace("'", '"'))}
    assert found - set(sys.stdlib_module_names) == {"openmlops"}


def test_every_name_is_there_and_no_other() -> None:
    assert all(getattr(openmlops, name) for name in openmlops.__all__)
    assert set(openmlops.__all__) <= set(dir(openmlops))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = openmlops.trian


def test_a_loaded_version_predicts_what_the_pipeline_predicts(world: Workspace, tmp_path: Path) -> None:
    images, _ = fresh_images(70, seed=3)
    model = openmlops.load(f"{world.model_name}@champion")
    assert (model.ref.version, model.task, len(model.classes)) == (1, "classification", 10)
    folder = world.registry.fetch(model.ref)
    expected = inference.predict(world.use_case, inference.load_exported(world.use_case, folder), images)
    np.testing.assert_allclose(model.predict(images), expected, atol=1e-6)

    files = [tmp_path / f"{row}.png" for row in range(3)]
    for file, image in zip(files, images, strict=False):
        file.write_bytes(png(image))
    for kind in (files, list(map(str, files)), [png(i) for i in images[:3]], [Image.fromarray(i) for i in images[:3]]):
        np.testing.assert_allclose(model.predict(kind), expected[:3], atol=1e-6)
    for one in (images[0], files[0], str(files[0]), Image.open(files[0]), png(images[0])):
        np.testing.assert_allclose(model.predict(one), expected[:1], atol=1e-6)
    assert model.predict([]).shape == (0, 10)
    assert openmlops.load(world.model_name).ref == openmlops.load(f"{world.model_name}/1").ref == model.ref


def test_images_of_other_kinds_are_what_a_client_would_send(world: Workspace, tmp_path: Path) -> None:
    model = openmlops.load(world.model_name)
    image = fresh_images(1, seed=4)[0][0]
    grey = image[:, :, 0]
    same = [grey, grey[:, :, None], np.repeat(grey[:, :, None], 3, axis=2), Image.fromarray(grey)]
    found = model.predict(same)
    np.testing.assert_allclose(found, np.repeat(found[:1], 4, axis=0), atol=1e-6)
    transparent = np.concatenate([image, np.full((*image.shape[:2], 1), 9, np.uint8)], axis=2)
    np.testing.assert_allclose(model.predict(transparent), model.predict(image), atol=1e-6)
    turned = Image.fromarray(np.rot90(image, 1))
    turned.getexif()[0x0112] = 6  # shown rotated by 90 degrees clockwise
    np.testing.assert_allclose(model.predict(turned), model.predict(image), atol=1e-6)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3)), "float64, not uint8"),
        (np.zeros((4, 4, 5, 1), np.uint8), r"shape \(4, 5, 1\)|number 0"),
        ("absent.png", "absent.png cannot be used"),
        ([np.zeros((9, 9, 3), np.uint8), 7], "number 1, counted from 0"),
        (b"no image", "number 0"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
    ],
)
def test_what_is_no_image_is_named(world: Workspace, image: object, said: str) -> None:
    if isinstance(image, np.ndarray) and image.ndim == 4:
        assert len(openmlops.load(world.model_name).predict(image)) == 4  # four grey images
        return
    with pytest.raises(DataError, match=said):
        openmlops.load(world.model_name).predict(image)  # type: ignore[arg-type]


def test_versions_that_are_not_there(world: Workspace) -> None:
    for spec in ("nobody@champion", f"{world.model_name}/99", "nobody"):
        with pytest.raises(OpenMLOpsError):
            openmlops.load(spec)
    with pytest.raises(SettingsError, match="epoch_s is not an option"):
        openmlops.train(epoch_s=3)
    with pytest.raises(SettingsError, match="seed has the value 'x'"):
        openmlops.train(seed="x")


def test_tables_and_acts(world: Workspace) -> None:
    name, head = world.model_name, world.ledger.head(world.model_name)
    assert head
    assert list(openmlops.history()["champion"]) == [1]
    assert len(openmlops.decisions()) == 0
    assert len(openmlops.predictions()) == len(openmlops.predictions(f"{name}/1")) == 60
    assert len(openmlops.predictions(last=7)) == 7
    with pytest.raises(ModelNotFound):
        openmlops.rollback(name)
    with pytest.raises(LedgerConflict):
        openmlops.rollback(name, expect="3")


def test_an_export_holds_every_prediction_and_reads_back(
    world: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_export, "ROWS", 25)
    shown = openmlops.predictions()
    csv, parquet = tmp_path / "p.csv", tmp_path / "p.parquet"
    for file in (csv, parquet):
        done = prediction_export.export(world, world.model_name, file)
        assert (done.rows, done.version, done.left_out) == (60, 1, 0)
    read, stored = pd.read_csv(csv, parse_dates=["at"]), pd.read_parquet(parquet)
    assert list(read) == list(stored) == list(shown)
    assert list(read["id"]) == list(stored["id"]) == list(shown["id"])
    assert read["label"].notna().sum() == stored["label"].notna().sum() == 20
    assert list(stored["at"]) == list(read["at"]) == list(shown["at"])
    np.testing.assert_array_equal(stored.filter(like="probability_"), shown.filter(like="probability_"))
    about = json.loads(pq.read_schema(parquet).metadata[b"openmlops"])
    assert (about["model"], about["task"], len(about["classes"])) == (world.model_name, "classification", 10)

    done = prediction_export.export(world, world.model_name, csv, last=7, features=False)
    latest = pd.read_csv(csv)
    assert list(latest["id"]) == list(shown["id"])[-7:]
    assert not set(world.inference_log.window(world.model_name, 1).layout.columns) & set(latest)


def test_what_cannot_be_exported_changes_no_file(world: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "kept.csv"
    file.write_text("kept")
    for spec, path in ((f"{world.model_name}/9", file), (world.model_name, tmp_path / "p.xlsx"), ("nobody", file)):
        with pytest.raises(OpenMLOpsError):
            prediction_export.export(world, spec, path)
    assert file.read_text() == "kept"
    assert not (tmp_path / "p.xlsx").exists()


def test_the_command_exports_too(world: Workspace, tmp_path: Path) -> None:
    s = world.settings
    places = {"OPENMLOPS_HOME": str(s.home), "DATABASE_URL": s.database, "DATA_RAW_DIR": str(s.data_raw_dir)}
    words = [
        sys.executable,
        "-m",
        "openmlops",
        "predictions",
        "export",
        f"{world.model_name}@champion",
        "out.parquet",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | places, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 60
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 60
    assert NOON in list(pd.read_parquet(tmp_path / "out.parquet")["at"])
