"""Data sets that the tests of the use case `person` share: the drawn sample and a small part of it."""

from pathlib import Path

import pytest
from part_of_sample import part_of

from drawn_people import drawn

SMALL = {"train": 12, "val": 6, "test": 6}


@pytest.fixture(scope="session")
def person_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole sample; do not write into it."""
    return drawn(tmp_path_factory)


@pytest.fixture
def small_people(person_sample: Path, tmp_path: Path) -> Path:
    """The first images of each split of the sample, as a data set of one's own."""
    return part_of(person_sample, tmp_path / "people", SMALL)
