"""The outcome of a decision as text or, without one, what it waits for, from the same values as the policy."""

from datetime import datetime, timedelta
from typing import NamedTuple

from openmlops.adapters.decisions import DecisionRecord
from openmlops.core.monitoring.policy import Policy

OUTCOMES = {
    "started": "in progress",
    "promote": "retrained; version {} was promoted",
    "reject": "retrained; the gate rejected version {}",
    "inconclusive": "retrained; the gate's verdict on version {} was inconclusive",
    "failed": "failed",
    "no_data": "no new data to train on",
    "rolled_back": "rolled back to version {}",
}


class Situation(NamedTuple):
    """What a decision may wait for: number of new labels, policy, current time."""

    new_labels: int
    policy: Policy
    now: datetime


def outcome_text(record: DecisionRecord) -> str:
    """The outcome of a decision as text; empty without one."""
    if record.outcome is None:
        return ""
    text = OUTCOMES[record.outcome.kind].format(record.outcome.version)
    return f"{text}: {'; '.join(record.outcome.reasons)}" if record.outcome.kind in ("failed", "no_data") else text


def waiting_text(record: DecisionRecord, situation: Situation, champion: int | None) -> str:
    """What the latest decision waits for, as text; an act on a version that is no longer the champion waits for nothing."""
    if record.action in ("retrain", "roll_back", "nothing", "not_measurable") and record.version != champion:
        now = f"version {champion} is in production now" if champion else "no version is in production now"
        return f"for nothing: it was about version {record.version}, and {now}; the next cycle decides anew"
    return _WAITS[record.action](record, situation)


def _for_labels(record: DecisionRecord, situation: Situation) -> str:
    here, wanted = situation.new_labels, situation.policy.minimum_new_labels
    named = len(record.labels.uncertain) + len(record.labels.random)
    if here >= wanted:
        return f"for the next cycle: {here} new labels have arrived, {wanted} were required"
    which = f"; {named} images are requested for labelling" if named else ""
    return f"for labels: {here} of {wanted} have arrived{which}"


def _for_a_person(record: DecisionRecord, situation: Situation) -> str:
    act = "retraining" if record.action == "retrain" else "rollback"
    return f"for approval of the {act}: run a cycle in mode auto"


def _for_time(record: DecisionRecord, situation: Situation) -> str:
    ends = record.at + timedelta(hours=situation.policy.cooldown_hours)
    cooling = any("cooldown" in reason for reason in record.reasons)
    if cooling and ends > situation.now:
        return f"for the end of the cooldown, at the latest {ends:%Y-%m-%d %H:%M} UTC"
    if any("challengers in a row" in reason for reason in record.reasons):
        return "for a manual review: openmlops decisions --reset-breaker 'what was found'"
    return "for nothing; the next cycle evaluates again"


_WAITS = {
    "collect_labels": _for_labels,
    "retrain": _for_a_person,
    "roll_back": _for_a_person,
    "nothing": _for_time,
    "not_measurable": lambda record, situation: "for more predictions in production; the next cycle evaluates again",
    "reset": lambda record, situation: "for the next cycle",
    "request": lambda record, situation: "for openmlops watch to pick it up, or for a cycle that you run",
}
