"""An alarm whose post failed is sent until it is acknowledged: by the next cycle, by a watcher, after a killed process."""

from datetime import UTC, datetime, timedelta

import pytest
from test_cycle import keep
from test_watch import outcome

from openmlops.adapters.outbox import LONGEST, Message
from openmlops.errors import NotificationError
from openmlops.operations.monitoring import notification
from openmlops.operations.monitoring.cycle import CYCLE
from openmlops.operations.workspace import Workspace
from small_loop import branch


class Receiver:
    """Instead of the webhook: refuses so many posts, and keeps what it takes."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[tuple[str, object]] = []

    def post(self, url: str, content: object, hosts: list[str], identity: str, secret: str) -> None:
        if self.refusals:
            self.refusals -= 1
            raise NotificationError("hooks.example responded to the notification with 500", "Check the webhook")
        self.taken.append((identity, content))


@pytest.fixture
def listened(loop: Workspace, tmp_path) -> Workspace:
    return branch(loop, tmp_path / "listened", notify_webhook_url="http://hooks.example/x", notify_format="slack")


def receiver(monkeypatch: pytest.MonkeyPatch, refusals: int) -> Receiver:
    found = Receiver(refusals)
    monkeypatch.setattr(notification.webhook, "post", found.post)
    return found


def told(listened: Workspace, action: str, by: str) -> notification.Delivery:
    return notification.notify(listened, outcome(listened, keep(listened, action, by=by).id, action))


def test_a_refused_alarm_waits_and_goes_with_the_next_cycle_in_order(listened: Workspace, monkeypatch) -> None:
    found = receiver(monkeypatch, 1)
    first = told(listened, "retrain", "1")
    assert (first.sent, first.waiting) == (0, 1)
    assert "responded to the notification with 500" in first.problem
    assert told(listened, "roll_back", "2") == notification.Delivery(sent=2)
    assert [identity for identity, _ in found.taken] == ["retrain-1.retrain", "roll_back-2.roll_back"]
    assert notification.deliver(listened, again=True) == notification.Delivery()


def test_a_watcher_sends_it_when_its_pause_is_over(listened: Workspace, monkeypatch) -> None:
    found = receiver(monkeypatch, 1)
    told(listened, "retrain", "1")
    assert notification.deliver(listened).sent == 0  # not yet
    (waiting,) = listened.outbox.waiting(listened.model_name)
    assert waiting.attempts == 1
    assert [m.identity for m in listened.outbox.claim(waiting.model, datetime.now(UTC) + LONGEST)] == [waiting.identity]
    listened.outbox.failed(waiting, "again", datetime.now(UTC) - LONGEST - timedelta(days=1))
    assert notification.deliver(listened).sent == 1
    assert len(found.taken) == 1


def test_a_message_that_a_process_is_sending_is_left_to_it(listened: Workspace, monkeypatch) -> None:
    receiver(monkeypatch, 0)
    listened.outbox.put(notification.Message(identity="x", model=listened.model_name, at=datetime.now(UTC), content="{}"))
    (ours,) = listened.outbox.claim(listened.model_name, datetime.now(UTC))
    assert list(listened.outbox.claim(listened.model_name, datetime.now(UTC), again=True)) == []
    listened.outbox.delivered(ours)
    assert listened.outbox.waiting(listened.model_name) == ()


def test_the_decision_of_a_cycle_that_died_before_it_could_tell_is_told_by_the_next(listened: Workspace, monkeypatch) -> None:
    found = receiver(monkeypatch, 0)
    told(listened, "nothing", f"{CYCLE}1")
    keep(listened, "retrain", by=f"{CYCLE}2")  # and the process dies
    told(listened, "nothing", f"{CYCLE}3")
    told(listened, "nothing", f"{CYCLE}4")
    assert [identity for identity, _ in found.taken] == [f"retrain-{CYCLE}2.retrain"]


def test_a_message_that_a_clock_ahead_has_claimed_is_sent_before_that_time(listened: Workspace) -> None:
    """Its process died: nothing failed, and it would wait for a year."""
    now = datetime.now(UTC)
    listened.outbox.put(Message(identity="a.retrain", model=listened.model_name, at=now, content="{}"))
    ahead = now + timedelta(days=365)
    assert [each.identity for each in listened.outbox.claim(listened.model_name, ahead)] == ["a.retrain"]
    assert [each.identity for each in listened.outbox.claim(listened.model_name, now)] == ["a.retrain"]
    assert list(listened.outbox.claim(listened.model_name, now)) == []
