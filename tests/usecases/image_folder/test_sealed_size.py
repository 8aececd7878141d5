"""How a live version sees an image depends on that version alone, not on the size that the project is set to now."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openmlops.images.index import index_of
from openmlops.images.lazy import LazyImages, pixels
from openmlops.operations.release import inference
from openmlops.usecases.base import UseCase
from openmlops.usecases.image_folder import image_folder

SIDE = 224


class Version:
    """A version whose input has SIDE pixels."""

    image_shape = (SIDE, SIDE, 3)
    resize = "crop"


def photograph(seed: int) -> bytes:
    """A JPEG of 900x1200 pixels with detail at every scale."""
    rng, image = np.random.default_rng(seed), np.zeros((900, 1200, 3))
    for side in (9, 30, 90, 300, 900):
        coarse = Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).resize((1200, 900), Image.Resampling.BICUBIC)
        image += np.asarray(coarse) / 5
    content = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


@pytest.fixture(scope="module")
def projects() -> tuple[UseCase, UseCase]:
    return image_folder("own", ("a", "b"), size=SIDE), image_folder("own", ("a", "b"), size=32)


def served(use_case: UseCase, content: bytes) -> np.ndarray:
    """What the server shows the version."""
    return use_case.model_input([use_case.decoded(content, (SIDE, SIDE))], (SIDE, SIDE), "crop").pixels


def test_a_smaller_size_of_the_project_leaves_what_a_live_version_is_shown(projects):
    """Decoded for the project's 32 pixels, the version's 224 would be enlarged from about a hundred."""
    before, after = projects
    content = photograph(0)
    np.testing.assert_array_equal(served(before, content), served(after, content))
    for_project = replace(after, decode_for=None)
    away = np.abs(served(for_project, content).astype(int) - served(before, content)).mean()
    assert away > 5


def test_gate_monitoring_and_server_show_the_same(projects, tmp_path: Path):
    for name in range(3):
        (tmp_path / f"{name}.jpg").write_bytes(photograph(name))
    names = [f"{name}.jpg" for name in range(3)]
    shown = []
    for use_case in projects:
        images = LazyImages.of_files(tmp_path, index_of(tmp_path, names), use_case.decode, None)
        (found,) = inference.model_inputs(use_case, Version(), images, [np.arange(3)])
        shown.append(found.pixels)
        np.testing.assert_array_equal(found.pixels[1], served(use_case, photograph(1))[0])
    np.testing.assert_array_equal(*shown)


def test_images_of_one_size_and_changed_ones_are_not_decoded_again(projects, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(photograph(0))
    images = LazyImages.of_files(tmp_path, index_of(tmp_path, ["a.jpg"]), projects[0].decode, None)
    fitted = images.fitted(lambda image: image[:8, :8], (8, 8))
    changed = images.changed(lambda image, row: image // 2)
    for each in (fitted, changed):
        np.testing.assert_array_equal(pixels(projects[1].shown_to(each, (16, 16)))[0], pixels(each)[0])
