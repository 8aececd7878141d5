"""Labelled production images join the train side; nothing that was there changes."""

from pathlib import Path

import numpy as np
import pytest

from openmlops.errors import DataError
from openmlops.files import Manifest
from openmlops.usecases.person.sample import field
from openmlops.usecases.yolo_folder import data
from openmlops.usecases.yolo_folder.extend import extend


def test_images_and_boxes_come_back_as_train_rows(small_people: Path, tmp_path: Path) -> None:
    images, labels = field(7, 0)
    rows = data.read(extend(small_people, images, labels, tmp_path / "more"))
    added = slice(12, 19)
    assert all(np.array_equal(one, other) for one, other in zip(rows.images[added], images, strict=True))
    for one, other in zip(rows.labels[added], labels, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert not rows.test[added].any()
    assert rows.validation is not None
    assert not rows.validation[added].any()
    assert (rows.test.sum(), rows.validation.sum(), len(rows.images)) == (6, 6, 31)
    assert data.check(tmp_path / "more")[0] == ()


def test_what_was_there_stays_byte_for_byte(small_people: Path, tmp_path: Path) -> None:
    before = Manifest.of(small_people)
    after = Manifest.of(extend(small_people, *field(3, 1), tmp_path / "more"))
    assert Manifest.of(small_people) == before
    assert before.files.items() <= after.files.items()
    assert sorted(after.files.keys() - before.files.keys()) == [
        f"{kind}/train/production_1_{row:05d}.{suffix}"
        for kind, suffix in (("images", "png"), ("labels", "txt"))
        for row in range(3)
    ]


def test_a_second_batch_has_the_next_number(small_people: Path, tmp_path: Path) -> None:
    once = extend(small_people, *field(3, 1), tmp_path / "once")
    twice = extend(once, *field(2, 2), tmp_path / "twice")
    assert len(list((twice / "images/train").glob("production_1_*.png"))) == 3
    assert len(list((twice / "images/train").glob("production_2_*.png"))) == 2
    assert Manifest.of(once).files.items() <= Manifest.of(twice).files.items()


def test_the_train_folder_is_the_one_that_data_yaml_names(small_people: Path, tmp_path: Path) -> None:
    (small_people / "images/train").rename(small_people / "images/learn")
    (small_people / "labels/train").rename(small_people / "labels/learn")
    config = small_people / "data.yaml"
    config.write_text(config.read_text().replace("images/train", "images/learn"))
    more = extend(small_people, *field(2, 0), tmp_path / "more")
    assert len(list((more / "images/learn").glob("production_1_*.png"))) == 2
    assert len(data.read(more).images) == 26


def test_a_folder_without_train_images_cannot_be_extended(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train images"):
        extend(tmp_path, *field(1, 0), tmp_path / "more")
    assert not (tmp_path / "more").exists()
