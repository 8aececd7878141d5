"""The monitoring policy: from observations of the champion and past actions to one decision with its reasons.

What is here: a pure function of values; the time is an argument. What is not: carrying out the action, waiting for approval,
and the lease that keeps two watchers from acting twice; those belong to the caller.

The rules, in this order. No measurable window: no decision (`not_measurable`). Fewer than k alarms in the last n windows: do
nothing. A new champion with low accuracy on labels but without drift: roll back. Alarms of drift alone that chance raises too
often (`evidence`): do nothing. Too few new labels: collect labels. In the
cooldown, over the daily budget, or too many failed challengers in a row: do nothing. Otherwise: retrain.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from openmlops.core.monitoring import evidence
from openmlops.core.monitoring.observed import AccuracyEstimate, Action, LabelledAccuracy, Observation, WorthLabelling
from openmlops.core.types import Interval, Value

DAY = timedelta(days=1)


class Policy(Value):
    """Thresholds and limits for acting."""

    alarmed_windows: int = 2
    """k: number of the latest `of_windows` windows that must raise an alarm"""
    of_windows: int = 3
    """n: number of latest windows to consider"""
    drifted_columns: float | None = 0.5
    """share of columns drifted by Evidently's tests that raises an alarm; None: not used"""
    accuracy_drop: float = 0.05
    """drop of accuracy below the champion's on the test split that raises an alarm; 0.05 is five percentage points"""
    minimum_new_labels: int = 500
    """labelled production images, not yet used for training, that a retraining needs"""
    cooldown_hours: float = 6.0
    """hours to wait after a retraining, a rollback or a request for labels"""
    retrainings_a_day: int = 2
    """most retrainings in any 24 hours"""
    breaker: int = 3
    """consecutive rejected or failed challengers after which retraining stops until a person resets the breaker"""
    probation_hours: float = 48.0
    """hours after a promotion in which a rollback is considered"""
    labels_to_request: int = 200
    """number of images in a request for labels"""


class Champion(Value):
    """The version in production, `since` when, its accuracy (0..1) on the test split, and the previous champion."""

    version: int
    since: datetime
    accuracy: Interval
    previous: int | None = None


class PastAction(Value):
    """An action taken at an instant; `reset` is a person closing the breaker. `outcome` is that of a retraining."""

    at: datetime
    kind: Literal["retrain", "collect_labels", "roll_back", "reset"]
    outcome: Literal["promote", "reject", "inconclusive", "failed"] | None = None


class History(Value):
    """The past that a decision depends on, in chronological order."""

    champion: Champion
    observations: tuple[Observation, ...] = ()
    actions: tuple[PastAction, ...] = ()


class Labels(Value):
    """The number of new labelled images not yet used for training, and which unlabelled ones to request."""

    new: int
    wanted: WorthLabelling = WorthLabelling()


class Decision(Value):
    """The action for a version, and its reasons. `labels` names images only if the action is `collect_labels`."""

    action: Action
    reasons: tuple[str, ...]
    version: int
    at: datetime
    labels: WorthLabelling = WorthLabelling()


class _Finding(NamedTuple):
    action: Action
    reasons: tuple[str, ...]
    labels: WorthLabelling = WorthLabelling()


def decide(policy: Policy, history: History, labels: Labels, now: datetime) -> Decision:
    """Apply the rules in the order of the module's docstring. All instants must be timezone-aware."""
    found = _find(policy, history, labels, now)
    return Decision(action=found.action, reasons=found.reasons, version=history.champion.version, at=now, labels=found.labels)


def _find(policy: Policy, history: History, labels: Labels, now: datetime) -> _Finding:
    champion = history.champion
    seen = [o for o in history.observations if o.version == champion.version and o.at >= champion.since]
    if not seen:
        reason = f"no window of version {champion.version} was evaluated since it became champion"
        return _Finding("not_measurable", (reason,))
    if not is_informative(seen[-1]):
        return _Finding("not_measurable", seen[-1].drift.reasons)
    windows = [o for o in seen if is_informative(o)][-policy.of_windows :]
    alarms = [reasons for o in windows if (reasons := _alarms(policy, champion, o))]
    count = f"{len(alarms)} of the last {len(windows)} windows raised an alarm; the policy requires {policy.alarmed_windows}"
    why = (count, *alarms[-1]) if alarms else (count,)
    if len(alarms) < policy.alarmed_windows:
        return _Finding("nothing", why)
    if found := _roll_back_on_probation(policy, history, windows, why, now):
        return found
    if weak := _by_chance(policy, champion, windows):
        return _Finding("nothing", (*why, weak))
    if labels.new < policy.minimum_new_labels:
        return _request_labels(policy, history.actions, labels, why, now)
    if found := _wait(policy, history.actions, why, now):
        return found
    enough = f"{labels.new} new labelled images, at least {policy.minimum_new_labels} required"
    return _Finding("retrain", (*why, enough))


def is_informative(observation: Observation) -> bool:
    """Whether a window is informative: drift was measurable, or labels give the accuracy."""
    return observation.drift.outcome != "not_measurable" or observation.labelled is not None


def _alarms(policy: Policy, champion: Champion, observation: Observation, drift: bool = True) -> tuple[str, ...]:
    """Why one window raises an alarm, a phrase each; empty if it does not. Without `drift`, its statistic does not count."""
    found = list(observation.drift.reasons) if drift and observation.drift.outcome == "drift" else []
    share, limit = observation.share_of_drifted_columns, policy.drifted_columns
    if share is not None and limit is not None and share >= limit:
        found.append(f"{share:.0%} of the columns drifted; the limit is {limit:.0%}")
    found.append(_drop_on_labels(policy, champion, observation))
    if observation.estimate and observation.estimate.trustworthy:
        found.append(_drop(policy, champion, "estimated accuracy", observation.estimate))
    return tuple(reason for reason in found if reason)


def _by_chance(policy: Policy, champion: Champion, windows: Sequence[Observation]) -> str:
    """Why the drift of these windows is no evidence yet; empty if it is, or if a window alarms for another reason too."""
    if any(_alarms(policy, champion, o, drift=False) for o in windows):
        return ""
    drifted = [o.drift for o in windows if o.drift.outcome == "drift"]
    p_values, rate = [found.p_value for found in drifted], drifted[0].false_alarm_rate
    return evidence.doubt(p_values, rate, [o.at for o in windows], policy.alarmed_windows)


def _drop(policy: Policy, champion: Champion, name: str, measured: AccuracyEstimate | LabelledAccuracy) -> str:
    """How far an accuracy has dropped, if even its upper bound is lower than `accuracy_drop` allows; else an empty string."""
    found = measured.accuracy
    if found is None or found.high >= champion.accuracy.value - policy.accuracy_drop:
        return ""
    return f"{name} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) against {champion.accuracy.value:.3f} on test"


def _drop_on_labels(policy: Policy, champion: Champion, observation: Observation) -> str:
    labelled = observation.labelled
    return _drop(policy, champion, f"{labelled.metric} on labels", labelled) if labelled else ""


def _roll_back_on_probation(
    policy: Policy, history: History, windows: Sequence[Observation], why: tuple[str, ...], now: datetime
) -> _Finding | None:
    """Roll back a champion on probation that has low accuracy on labels in windows without drift."""
    champion = history.champion
    stable = [o for o in windows if o.drift.outcome == "no_drift"]
    bad = [o for o in stable if _drop_on_labels(policy, champion, o)]
    on_probation = now - champion.since < timedelta(hours=policy.probation_hours)
    if champion.previous is None or not on_probation or len(bad) < policy.alarmed_windows:
        return None
    reason = f"{len(bad)} of them without drift, since version {champion.version} replaced {champion.previous}"
    if waiting := _cooling(policy, history.actions, ("roll_back",), now):
        return _Finding("nothing", (*why, reason, waiting))
    return _Finding("roll_back", (*why, reason))


def _request_labels(
    policy: Policy, actions: Sequence[PastAction], labels: Labels, why: tuple[str, ...], now: datetime
) -> _Finding:
    """Too few new labels to retrain: request labels, unless the cooldown of an earlier request is not over."""
    lack = f"{labels.new} new labelled images, fewer than the required {policy.minimum_new_labels}"
    if waiting := _cooling(policy, actions, ("collect_labels",), now):
        return _Finding("nothing", (*why, lack, waiting))
    wanted = labels.wanted
    named = f"{len(wanted.uncertain)} uncertain and {len(wanted.random)} random images are requested for labelling"
    return _Finding("collect_labels", (*why, lack, named), wanted)


def _wait(policy: Policy, actions: Sequence[PastAction], why: tuple[str, ...], now: datetime) -> _Finding | None:
    """Do nothing, if a retraining is due but the cooldown, the daily budget or the breaker forbids it."""
    found = [_cooling(policy, actions, ("retrain", "roll_back"), now), _spent(policy, actions, now), _broken(policy, actions)]
    against = tuple(reason for reason in found if reason)
    return _Finding("nothing", (*why, *against)) if against else None


def _cooling(policy: Policy, actions: Sequence[PastAction], kinds: tuple[str, ...], now: datetime) -> str:
    """Why the cooldown is not over, or an empty string."""
    last = max((action.at for action in actions if action.kind in kinds), default=None)
    if last is None or now - last >= timedelta(hours=policy.cooldown_hours):
        return ""
    hours = (now - last) / timedelta(hours=1)
    return f"the last {' or '.join(kinds)} was {hours:.1f} hours ago; the cooldown is {policy.cooldown_hours:g} hours"


def _spent(policy: Policy, actions: Sequence[PastAction], now: datetime) -> str:
    """Why the daily budget is used up, or an empty string."""
    today = sum(action.kind == "retrain" and now - action.at < DAY for action in actions)
    return (
        f"{today} retrainings in 24 hours; the limit is {policy.retrainings_a_day}" if today >= policy.retrainings_a_day else ""
    )


def _broken(policy: Policy, actions: Sequence[PastAction]) -> str:
    """Why the breaker is open, or an empty string. Inconclusive challengers neither open nor close it."""
    in_vain = 0
    for action in actions:
        if action.kind == "reset" or action.outcome == "promote":
            in_vain = 0
        in_vain += action.outcome in ("reject", "failed")
    return (
        f"{in_vain} challengers in a row were rejected or failed: manual review required" if in_vain >= policy.breaker else ""
    )
