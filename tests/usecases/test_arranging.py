"""Copies of the user's images, made by several threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openmlops.usecases.arranging import Copies


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
