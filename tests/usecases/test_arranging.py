"""Copies of the user's images, made by several threads; and how many images each drawn split gets."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openmlops.core.intervals import wilson
from openmlops.usecases.arranging import ENOUGH, MONITORABLE, TELLING, Copies, drawn


class Slow(str):
    """A path that takes a while to be looked up, in which other threads go on."""

    __slots__ = ()

    def __hash__(self) -> int:
        time.sleep(0.01)
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_each_image_gets_a_copy_of_its_own_whatever_the_threads_do(tmp_path: Path) -> None:
    sources = [tmp_path / f"{number}.png" for number in range(8)]
    for source in sources:
        source.write_bytes(source.name.encode())
    with Copies(tmp_path / "out") as copies:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda source: copies.keep(Slow(source), source.name.encode()), sources))
        places = [copies.put(source, source.stem) for source in sources]
    assert [(tmp_path / "out" / place).read_bytes() for place in places] == [source.name.encode() for source in sources]


@pytest.mark.parametrize(
    ("images", "test"),
    [(100, 20), (300, 60), (499, 100), (500, 150), (600, 150), (750, 150), (1000, 200), (20_000, 4000)],
)
def test_the_test_split_is_a_fifth_and_150_images_where_that_is_at_most_three_tenths(images: int, test: int) -> None:
    splits = Counter(drawn([f"{number:05d}" for number in range(images)], set(), images))
    assert splits["test"] == test
    assert images < ENOUGH or splits["val"] >= MONITORABLE


def test_150_images_tell_an_accuracy_of_90_percent_within_five_points() -> None:
    interval = wilson(round(0.9 * TELLING), TELLING)
    assert interval.high - interval.low <= 0.1
