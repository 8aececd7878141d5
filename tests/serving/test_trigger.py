"""POST /trigger: another system asks the watchers for a turn of the loop."""

import pytest

from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Decisions


def test_a_request_stands_among_the_decisions_with_its_reason(server, shared_world):
    answer = server.client.post("/trigger", json={"reason": "new cameras on line 4"})
    assert answer.status_code == 202
    record = Decisions(connect(shared_world.url)).get(answer.json()["decision_id"])
    assert (record.action, record.reasons, record.version) == ("request", ("new cameras on line 4",), 1)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": ""}', b'{"reason": 3}', b'{"reason": "x", "more": 1}', b"\xff"])
def test_what_gives_no_reason_is_a_422(server, body):
    answer = server.client.post("/trigger", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
