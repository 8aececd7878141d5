"""POST /trigger: another system asks the watchers for a turn of the loop."""

import pytest

from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Decisions


def test_a_request_stands_among_the_decisions_with_its_reason(server, shared_world):
    answer = server.client.post("/trigger", json={"reason": "new cameras on line 4"})
    assert answer.status_code == 202
    record = Decisions(connect(shared_world.url)).get(answer.json()["decision_id"])
    assert (record.action, record.reasons, record.version) == ("request", ("new cameras on line 4",), 1)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"reason": ""}', b'{"reason": 3}', b'{"alerts": [{}]}', b'{"alerts": 7}', b"\xff"]
)
def test_what_gives_no_reason_is_a_422(server, body):
    answer = server.client.post("/trigger", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


FIRING = {
    "version": "4",
    "groupKey": "{}:{alertname='Errors'}",
    "status": "firing",
    "receiver": "openmlops",
    "commonLabels": {"alertname": "Errors"},
    "externalURL": "http://alertmanager:9093",
    "alerts": [
        {"status": "firing", "labels": {"alertname": "Errors"}, "annotations": {"summary": "5 % of requests fail"}},
        {"status": "firing", "labels": {"alertname": "Slow"}, "annotations": {}},
    ],
}


def test_a_webhook_of_alertmanager_is_a_reason_and_other_fields_are_ignored(server, shared_world):
    answer = server.client.post("/trigger", json=FIRING)
    assert answer.status_code == 202
    record = Decisions(connect(shared_world.url)).get(answer.json()["decision_id"])
    assert record.reasons == ("Alertmanager, firing: 5 % of requests fail; Slow",)
    assert server.client.post("/trigger", json={"reason": "x", "more": 1}).status_code == 202


def test_two_posts_with_one_idempotency_key_are_one_decision(server, shared_world):
    decisions = Decisions(connect(shared_world.url))
    given = [server.client.post("/trigger", json={"reason": "r"}, headers={"Idempotency-Key": key}) for key in ("a", "a", "b")]
    assert [each.status_code for each in given] == [202] * 3
    ids = [each.json()["decision_id"] for each in given]
    assert ids[0] == ids[1] != ids[2]
    assert sum(record.id in ids for record in decisions.list(decisions.get(ids[0]).model)) == 2
