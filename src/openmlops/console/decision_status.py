"""The outcome of a decision as text or, without one, what it waits for, from the same values as the policy."""

from datetime import datetime, timedelta
from typing import NamedTuple

from openmlops.adapters.decisions import DecisionRecord
from openmlops.core.monitoring.policy import Policy

OUTCOMES = {
    "started": "is being done",
    "promote": "retrained; version {} was promoted",
    "reject": "retrained; the gate rejected version {}",
    "inconclusive": "retrained; the gate could not tell whether version {} is better",
    "failed": "failed",
    "no_data": "there was no new data to train on",
    "rolled_back": "version {} was put back",
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


def waiting_text(record: DecisionRecord, situation: Situation) -> str:
    """What the latest decision waits for, as text."""
    return _WAITS[record.action](record, situation)


def _for_labels(record: DecisionRecord, situation: Situation) -> str:
    here, wanted = situation.new_labels, situation.policy.minimum_new_labels
    named = len(record.labels.uncertain) + len(record.labels.random)
    if here >= wanted:
        return f"for the next turn: {here} new labels are here, {wanted} were needed"
    which = f"; {named} images are named for it" if named else ""
    return f"for labels: {here} of {wanted} are here{which}"


def _for_a_person(record: DecisionRecord, situation: Situation) -> str:
    act = "retraining" if record.action == "retrain" else "rollback"
    return f"for somebody to let the {act} happen: run a cycle in the mode auto"


def _for_time(record: DecisionRecord, situation: Situation) -> str:
    ends = record.at + timedelta(hours=situation.policy.cooldown_hours)
    cooling = any("cooldown" in reason for reason in record.reasons)
    if cooling and ends > situation.now:
        return f"for the cooldown, which ends at the latest at {ends:%Y-%m-%d %H:%M} UTC"
    if any("a person must look" in reason for reason in record.reasons):
        return "for a person: openmlops decisions --reset-breaker 'what was found'"
    return "for nothing; the next turn looks again"


_WAITS = {
    "collect_labels": _for_labels,
    "retrain": _for_a_person,
    "roll_back": _for_a_person,
    "nothing": _for_time,
    "not_measurable": lambda record, situation: "for more answers in production; the next turn looks again",
    "reset": lambda record, situation: "for the next turn",
    "request": lambda record, situation: "for a watcher: openmlops watch takes it up, or run a cycle",
}
