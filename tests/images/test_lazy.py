"""Images on demand: the same pixels as in memory, in any order and from any thread, whether they are kept or not."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from openmlops.core.images.corruptions import corrupt, corrupt_one
from openmlops.core.images.decoding import decode_image, decode_native, png
from openmlops.errors import DataCorrupt, DataError
from openmlops.images import lazy
from openmlops.images.index import index_of
from openmlops.images.lazy import Decoded, LazyImages, pixels

SIZE = (24, 24)


def decode(content: bytes) -> np.ndarray:
    return decode_image(content, *SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    place = tmp_path / "images"
    place.mkdir()
    for number in range(30):
        (place / f"{number:02d}.png").write_bytes(png(draw.integers(0, 256, (24 + number % 3, 30, 3), dtype=np.uint8)))
    return place


def of(folder: Path, native: bool = False) -> LazyImages:
    index = index_of(folder, sorted(path.name for path in folder.iterdir()))
    return LazyImages.of_files(folder, index, decode_native if native else decode, None if native else SIZE)


def in_memory(folder: Path) -> np.ndarray:
    return np.stack([decode(path.read_bytes()) for path in sorted(folder.iterdir())])


@pytest.mark.parametrize("memory", [0, 10**9])
def test_they_are_those_in_memory_however_they_are_asked_for(memory: int, folder: Path, tmp_path: Path) -> None:
    images, whole = of(folder).kept_in(Decoded(tmp_path / "room", memory)), in_memory(folder)
    chosen = np.random.default_rng(1).permutation(30)[:17]
    for _ in range(2):  # decoded, then as kept
        assert np.array_equal(pixels(images), whole)
        assert np.array_equal(images[3], whole[3])
        assert np.array_equal(pixels(images[chosen]), whole[chosen])
        assert np.array_equal(pixels(images[5:9][[1, 0]]), whole[[6, 5]])
        assert np.array_equal(pixels(images[np.arange(30) % 2 == 0]), whole[::2])
        assert np.array_equal(np.stack(list(images)), whole)
        parts = np.array_split(chosen, 5)
        for part, batch in zip(parts, images.batches(parts), strict=True):
            assert np.array_equal(batch, whole[part])
    assert len(images[np.zeros(0, np.int64)]) == 0
    assert pixels(images[:0]).shape == (0, *SIZE, 3)


def test_images_of_their_own_sizes_are_objects_and_their_sizes_are_known_without_a_look(folder: Path) -> None:
    images = of(folder, native=True)
    assert lazy.sizes(images).tolist() == [[24 + number % 3, 30] for number in range(30)]
    batch = pixels(images[:4])
    assert batch.dtype == object
    assert [image.shape for image in batch] == [(24, 30, 3), (25, 30, 3), (26, 30, 3), (24, 30, 3)]


def test_each_is_decoded_once_if_all_fit_and_every_time_if_not(folder: Path, tmp_path: Path) -> None:
    def counts(memory: int) -> set[int]:
        decoded: Counter[bytes] = Counter()

        def counting(content: bytes) -> np.ndarray:
            decoded[content] += 1
            return decode(content)

        index = index_of(folder, sorted(path.name for path in folder.iterdir()))
        images = LazyImages.of_files(folder, index, counting, SIZE).kept_in(Decoded(tmp_path / "room", memory))
        for _ in range(3):
            pixels(images)
        assert len(decoded) == 30
        return set(decoded.values())

    needed = 30 * SIZE[0] * SIZE[1] * 3
    assert counts(needed) == {1}
    assert counts(needed - 1) == {3}


def test_what_is_kept_is_no_file_that_anybody_could_find_or_leave_behind(folder: Path, tmp_path: Path) -> None:
    images = of(folder).kept_in(Decoded(tmp_path / "room", 10**9))
    pixels(images)
    assert list((tmp_path / "room").iterdir()) == []


def test_a_full_disk_costs_time_and_no_pixel(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = itertools.count()
    pwrite = lazy.os.pwrite

    def filling(*arguments: object) -> int:
        number = next(written)
        if number == 5:
            return 100  # the last bytes that fit
        if number > 5:
            raise OSError(28, "No space left on device")
        return pwrite(*arguments)

    monkeypatch.setattr(lazy.os, "pwrite", filling)
    images = of(folder).kept_in(Decoded(tmp_path / "room", 10**9))
    for _ in range(2):
        assert np.array_equal(pixels(images), in_memory(folder))
    assert "Decoded images are not kept any more (No space left on device)" in caplog.text


def test_a_file_that_changed_or_vanished_since_its_index_was_made_is_named(folder: Path) -> None:
    images = of(folder)
    (folder / "03.png").write_bytes((folder / "04.png").read_bytes())
    (folder / "05.png").unlink()
    with pytest.raises(DataCorrupt, match=r"03\.png has changed since its version was made\. .*openmlops data pull"):
        images[3]
    with pytest.raises(DataError, match=r"05\.png cannot be read \(No such file or directory\)\. .*openmlops data pull"):
        pixels(images[5:7])
    assert np.array_equal(images[4], in_memory(folder)[3])


def test_batches_that_are_left_early_end_their_threads(folder: Path) -> None:
    images = of(folder)
    for batch in images.batches(itertools.repeat(np.arange(4))):
        assert len(batch) == 4
        break


def test_they_are_fitted_once_for_each_frame(folder: Path, tmp_path: Path) -> None:
    fits: list[int] = []

    def fit(image: np.ndarray) -> np.ndarray:
        fits.append(1)
        return image[:20, :20]

    images = of(folder, native=True).kept_in(Decoded(tmp_path / "room", 10**9))
    for part in (images[:10], images[5:15], images):
        assert pixels(part.fitted(fit, (20, 20))).shape == (len(part), 20, 20, 3)
    assert len(fits) == 30
    assert np.array_equal(images.fitted(fit, (20, 20))[7], images[7][:20, :20])


@pytest.mark.parametrize("native", [True, False])
def test_they_are_corrupted_as_in_memory_and_never_kept_so(native: bool, folder: Path, tmp_path: Path) -> None:
    images = of(folder, native).kept_in(Decoded(tmp_path / "room", 10**9))[4:20]
    found = lazy.corrupted(images, "noise", 3, seed=1)
    expected = [corrupt_one(image, "noise", 3, 1, row) for row, image in enumerate(images)]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    if native:
        whole = corrupt(pixels(images), "noise", 3, seed=1)
        assert all(np.array_equal(one, other) for one, other in zip(found, whole, strict=True))
    assert lazy.sizes(found).tolist() == lazy.sizes(images).tolist()
    content, suffix = lazy.file_of(found, 3)
    assert suffix == ".png"
    assert np.array_equal(decode_native(content), found[3]), "not the file, which has other pixels"
    assert not np.array_equal(images[0], found[0])
    with pytest.raises(DataError, match="There is no corruption 'fog'"):
        lazy.corrupted(images, "fog", 3, seed=1)


def test_functions_of_images_take_those_in_memory_too(folder: Path) -> None:
    images = of(folder)
    whole = in_memory(folder)
    assert pixels(whole) is whole
    assert lazy.sizes(whole).tolist() == lazy.sizes(images).tolist()
    assert [len(batch) for batch in lazy.batches(whole, [np.arange(3), np.arange(2)])] == [3, 2]
    content, suffix = lazy.file_of(whole, 2)
    assert suffix == ".png"
    assert np.array_equal(decode_native(content), whole[2])
    assert lazy.file_of(images, 2) == ((folder / "02.png").read_bytes(), ".png")
    assert lazy.hashes(whole).dtype == lazy.hashes(images).dtype == np.uint64
