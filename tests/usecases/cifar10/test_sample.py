"""The shipped sample: the same bytes everywhere, different digits in train and test."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from openmlops.files import Manifest
from openmlops.usecases.cifar10 import data

module = importlib.import_module("openmlops.usecases.cifar10.sample")  # the package exports a function of that name
FINGERPRINT = "564c686e184c729e33c883eb64bfbe9571c19d42b48d7ad3483947bcd31ee48b"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module.sample(tmp_path_factory.mktemp("sample"))


def test_the_sample_has_the_same_bytes_everywhere(folder: Path) -> None:
    assert Manifest.of(folder).fingerprint == FINGERPRINT


def test_the_sample_has_the_official_layout_and_its_own_names(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {data.META, data.TEST, *data.TRAIN}
    rows = data.read(folder)
    assert rows.names == module.NAMES
    assert (len(rows.labels), rows.test.sum()) == (4200, 700)
    assert np.bincount(rows.labels).min() > 350


def test_train_and_test_are_made_of_different_digits(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digits, _ = module._digits()
    painted: list[np.ndarray] = []
    paint = module._paint
    monkeypatch.setattr(module, "_paint", lambda ink, draw: (painted.append(ink), paint(ink, draw))[1])
    module.sample(tmp_path)
    train, test = ({ink.tobytes() for batch in part for ink in batch} for part in (painted[:5], painted[5:]))
    assert not train & test
    assert len(train) + len(test) <= len({digit.tobytes() for digit in digits}) - 0.9 * module.FIELD_DIGITS


def test_a_digit_is_legible_in_its_picture(folder: Path) -> None:
    """Nearest neighbour on luma is far above chance and far below a network: neither trivial nor hopeless."""
    rows = data.read(folder)
    luma = rows.images.mean(axis=3).reshape(len(rows.labels), -1)
    luma -= luma.mean(axis=1, keepdims=True)
    luma /= np.linalg.norm(luma, axis=1, keepdims=True)
    closest = np.abs(luma[rows.test] @ luma[~rows.test].T).argmax(axis=1)
    accuracy = (rows.labels[~rows.test][closest] == rows.labels[rows.test]).mean()
    assert 0.2 < accuracy < 0.85


def test_the_field_sends_digits_that_are_neither_in_the_sample_nor_in_another_part(tmp_path: Path) -> None:
    images = [module.field(150, part)[0] for part in range(module.FIELD_PARTS)]
    order = module._Draw(module.SEED).permutation(1797)
    held_back = order[: module.TEST_DIGITS + module.FIELD_DIGITS]
    assert len(set(held_back)) == module.TEST_DIGITS + module.FIELD_DIGITS
    rows = data.read(module.sample(tmp_path / "sample"))
    known = {image.tobytes() for image in rows.images}
    sent = [image.tobytes() for part in images for image in part]
    assert len(set(sent)) == len(sent)
    assert not known & set(sent)
