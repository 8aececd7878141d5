"""Pruning beside a server that goes on answering, and kill -9 in the middle of it."""

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from servers import png, running
from versions import MODEL, World, images

from filled_log import log, workspace
from openmlops.operations.retention.prune import ALONE

pytestmark = pytest.mark.slow
OLD = 30_000


def test_no_request_fails_while_old_predictions_are_deleted_and_the_deletion_is_killed(world: World) -> None:
    found = workspace(world.home, DATABASE_URL=world.url)
    for part in range(15):
        log(found, OLD // 15, days=300, seconds=1, model=MODEL, version=9, mark=f"old {part}")
    world.promote(1)
    environment = os.environ | {"OPENMLOPS_HOME": str(world.home), "DATABASE_URL": world.url}
    answered: list[int] = []
    ended = threading.Event()
    with running(world) as server:

        def ask() -> None:
            content = png(images(1)[0])
            while not ended.is_set():
                answered.append(server.predict(content).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        for _ in range(3):
            program = Path(sys.executable).with_name("openmlops")
            child = subprocess.Popen([program, "prune"], env=environment, cwd=world.home, stdout=subprocess.DEVNULL)
            before = _retired(found)
            server.wait_until(lambda before=before: _retired(found) > before)
            child.kill()
            child.wait()
            found.leases.seize(ALONE, "the dead", timedelta(0))  # else its lease would expire in a minute
        partly = _retired(found)
        done = subprocess.run([program, "prune"], env=environment, cwd=world.home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ended.set()
        asking.join()
    assert 0 < partly < OLD, "it was killed in the middle"
    assert set(answered) == {200}, "a prediction whose entry takes too long is refused by the server"
    left = [found.inference_log.count(MODEL, version) for version in (9, 1)]
    assert (_retired(found), *left) == (OLD, 0, len(answered))


def _retired(found) -> int:  # type: ignore[no-untyped-def]
    return found.inference_hours.count(MODEL, 9)
