"""What is shown of an image, and where it was."""

import numpy as np
import pytest

from openmlops.core.images.resizing import cropped, squashed, uncropped


@pytest.mark.parametrize("size", [(20, 60), (60, 20), (40, 40), (37, 53)])
def test_the_middle_is_shown_with_its_aspect_ratio_and_found_again(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 4, columns * 4, rows * 0], axis=2).astype(np.uint8)
    shown = cropped(image, (16, 16)).astype(int)
    side = min(size)
    assert abs(shown[8, 8, 0] - 4 * size[0] / 2) < 8
    assert abs(shown[8, 8, 1] - 4 * size[1] / 2) < 8
    for axis in (0, 1):
        spread = np.ptp(shown[..., axis])
        assert abs(spread - 4 * side * 15 / 16) < 12
    back = uncropped(np.ones((16, 16), np.float32), size)
    assert back.shape == size
    assert back.sum() == pytest.approx(side * side, rel=0.1)
    assert back[size[0] // 2, size[1] // 2] == 1
    assert squashed(image, (16, 16)).shape == (16, 16, 3)


def test_an_image_of_the_models_size_is_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert cropped(image, (16, 16)) is image
