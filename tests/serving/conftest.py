"""A world (home, database, versions) of its own for each test, and one server that tests share which change nothing."""

from collections.abc import Iterator

import pytest
from servers import Server, running
from versions import World

from openmlops.adapters.database import connect
from openmlops.adapters.inference_log import InferenceLog


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory) -> World:
    world = World(tmp_path_factory.mktemp("served"))
    world.promote(1)
    return world


@pytest.fixture(scope="module")
def server(shared_world) -> Iterator[Server]:
    """A server of version 1 for the tests of one module."""
    with running(shared_world) as started:
        yield started


@pytest.fixture
def log(shared_world) -> InferenceLog:
    """The log of the shared server."""
    return InferenceLog(connect(shared_world.url))
