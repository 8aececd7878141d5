"""Claims about batch-wise augmentation, against numpy one image at a time."""

import numpy as np
import torch

from openmlops.learning import augment


def _images(n: int = 6, size: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_no_flip_and_no_shift_is_the_images_themselves() -> None:
    images = _images()
    batch = augment.gather(
        torch.from_numpy(images), torch.tensor([4, 1]), torch.tensor([False, False]), torch.zeros(2, 2).long()
    )
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1), images[[4, 1]])


def test_a_batch_equals_numpy_padding_cropping_and_flipping_one_by_one() -> None:
    images, draw = _images(40), np.random.default_rng(1)
    shifts, flipped = draw.integers(-3, 4, (40, 2)), draw.random(40) < 0.5
    rows = draw.permutation(40)
    batch = augment.gather(
        torch.from_numpy(images), torch.from_numpy(rows), torch.from_numpy(flipped), torch.from_numpy(shifts)
    )
    for got, row, flip, (down, right) in zip(batch.permute(0, 2, 3, 1).numpy(), rows, flipped, shifts, strict=True):
        image = images[row][:, ::-1] if flip else images[row]
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        expected = padded[3 + down : 12 + down, 3 + right : 12 + right]
        np.testing.assert_array_equal(got, expected)


def test_resizing_keeps_the_range_and_leaves_the_right_size_alone() -> None:
    batch = torch.from_numpy(_images()).permute(0, 3, 1, 2)
    assert augment.resize(batch, 9) is batch
    small = augment.resize(batch, 6)
    assert small.shape == (6, 3, 6, 6)
    assert 0 <= small.min() <= small.max() <= 255
    constant = augment.resize(torch.full((1, 3, 9, 9), 77, dtype=torch.uint8), 6)
    torch.testing.assert_close(constant, torch.full((1, 3, 6, 6), 77.0))
