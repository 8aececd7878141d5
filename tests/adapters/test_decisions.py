"""Decisions: kept in order, found by id, their outcome joined."""

from datetime import UTC, datetime, timedelta

import pytest

from openmlops.adapters.database import connect
from openmlops.adapters.decisions import DecisionRecord, Decisions, Outcome, Span
from openmlops.core.monitoring.drift import DriftReport
from openmlops.core.monitoring.policy import Observation, WorthLabelling
from openmlops.errors import DecisionNotFound

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def decisions(tmp_path):
    return Decisions(connect(f"sqlite:///{tmp_path / 'openmlops.db'}"))


def record(name, model="m", hours=0, **other):
    at = NOON + timedelta(hours=hours)
    return DecisionRecord(
        id=name, model=model, version=1, at=at, action="nothing", reasons=("0 of the last 1 windows",), by="test", **other
    )


def test_a_record_is_read_back_whole(decisions):
    drift = DriftReport(outcome="no_drift", reasons=("statistic 3.0",), reference="f" * 64, false_alarm_rate=0.01, n=500)
    observed = Observation(at=NOON, version=1, drift=drift, share_of_drifted_columns=0.25)
    written = record(
        "aaaa", labels=WorthLabelling(uncertain=("p1",), random=("p2",)), observation=observed,
        span=Span(source="log", anchor=NOON, until=NOON, n=500),
    )  # fmt: skip
    decisions.append(written)
    assert decisions.get("aaaa") == written


def test_the_last_records_of_a_model_come_oldest_first(decisions):
    for hour in range(5):
        decisions.append(record(f"a{hour}", hours=hour))
    decisions.append(record("other", model="n"))
    assert [found.id for found in decisions.list("m", last=3)] == ["a2", "a3", "a4"]


def test_an_outcome_joins_and_may_be_replaced_by_a_later_one(decisions):
    decisions.append(record("aaaa"))
    decisions.outcome("aaaa", Outcome(at=NOON, kind="started"))
    ended = Outcome(at=NOON, kind="promote", version=2, reasons=("better",))
    decisions.outcome("aaaa", ended)
    assert decisions.get("aaaa").outcome == ended


def test_the_beginning_of_an_id_will_do_if_it_is_the_only_one(decisions):
    for name in ("ab12", "ab34", "cd%"):
        decisions.append(record(name))
    assert decisions.get("ab1").id == "ab12"
    for ambiguous in ("ab", "", "x", "%"):
        with pytest.raises(DecisionNotFound, match=f"'{ambiguous}'"):
            decisions.get(ambiguous)


def test_an_outcome_of_no_decision_is_refused(decisions):
    with pytest.raises(DecisionNotFound):
        decisions.outcome("aaaa", Outcome(at=NOON, kind="failed"))
