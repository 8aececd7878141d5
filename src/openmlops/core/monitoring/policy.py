"""When to act: from what was observed of the champion and what was done before, to one decision with its reasons.

What is here: a pure function of values; the time is an argument. What is not: doing it, waiting for a person's consent,
and the lease that keeps two watchers from doing it twice; those are the caller's.

The rules, in this order: without a judged window nothing is decided (`not_measurable`). Fewer than k alarmed windows of
the last n: nothing. A new champion that does badly on labels although the world did not move: roll back. Too few new
labels: collect them. Retrained a moment ago, too often today, or in vain too often: nothing. Else: retrain.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np

from openmlops.core.monitoring.observed import AccuracyEstimate, Action, LabelledAccuracy, Observation, WorthLabelling
from openmlops.core.types import Interval, Value

DAY = timedelta(days=1)


class Policy(Value):
    """When to act."""

    alarmed_windows: int = 2
    """k: windows that must raise an alarm, among the latest `of_windows`"""
    of_windows: int = 3
    """n: how many of the latest windows are looked at"""
    drifted_columns: float | None = 0.5
    """share of columns that Evidently's tests find drifted; None: not used"""
    accuracy_drop: float = 0.05
    """share (0.05 is five points) below the champion's accuracy on the test split"""
    minimum_new_labels: int = 500
    """labelled production images that no training has used"""
    cooldown_hours: float = 6.0
    """hours after a retraining, a rollback or a request for labels"""
    retrainings_a_day: int = 2
    """in any 24 hours"""
    breaker: int = 3
    """challengers in a row that were rejected or failed; then a person must look"""
    probation_hours: float = 48.0
    """hours after a promotion in which a rollback is considered"""
    labels_to_request: int = 200
    """images that a request for labels names"""


class Champion(Value):
    """The version in production `since` an instant, its accuracy (a share) on the test split, and who was there before."""

    version: int
    since: datetime
    accuracy: Interval
    previous: int | None = None


class PastAction(Value):
    """What was done at an instant; `reset` is a person closing the breaker. `outcome` is that of a retraining."""

    at: datetime
    kind: Literal["retrain", "collect_labels", "roll_back", "reset"]
    outcome: Literal["promote", "reject", "inconclusive", "failed"] | None = None


class History(Value):
    """Everything that a decision looks back at, in order of time."""

    champion: Champion
    observations: tuple[Observation, ...] = ()
    actions: tuple[PastAction, ...] = ()


class Labels(Value):
    """New labelled images that no training has used, counted, and which unlabelled ones to ask for."""

    new: int
    wanted: WorthLabelling = WorthLabelling()


class Decision(Value):
    """What to do about a version, and why. `labels` names images only when the action is `collect_labels`."""

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
    """Apply the rules in the order that the module gives. All instants carry a time zone."""
    found = _find(policy, history, labels, now)
    return Decision(action=found.action, reasons=found.reasons, version=history.champion.version, at=now, labels=found.labels)


def _find(policy: Policy, history: History, labels: Labels, now: datetime) -> _Finding:
    champion = history.champion
    seen = [o for o in history.observations if o.version == champion.version and o.at >= champion.since]
    if not seen:
        reason = f"no window of version {champion.version} was observed since it became champion"
        return _Finding("not_measurable", (reason,))
    if not _judged(seen[-1]):
        return _Finding("not_measurable", seen[-1].drift.reasons)
    windows = [o for o in seen if _judged(o)][-policy.of_windows :]
    alarms = [reasons for o in windows if (reasons := _alarms(policy, champion, o))]
    count = f"{len(alarms)} of the last {len(windows)} windows raised an alarm, {policy.alarmed_windows} are needed"
    why = (count, *alarms[-1]) if alarms else (count,)
    if len(alarms) < policy.alarmed_windows:
        return _Finding("nothing", why)
    if found := _blame_the_model(policy, history, windows, why, now):
        return found
    if labels.new < policy.minimum_new_labels:
        return _ask_for_labels(policy, history.actions, labels, why, now)
    if found := _wait(policy, history.actions, why, now):
        return found
    enough = f"{labels.new} new labelled images, at least {policy.minimum_new_labels} are needed"
    return _Finding("retrain", (*why, enough))


def _judged(observation: Observation) -> bool:
    """Whether a window says anything: drift was measurable, or labels show the accuracy."""
    return observation.drift.outcome != "not_measurable" or observation.labelled is not None


def _alarms(policy: Policy, champion: Champion, observation: Observation) -> tuple[str, ...]:
    """Why one window is alarming, a phrase each; empty when it is not."""
    found = list(observation.drift.reasons) if observation.drift.outcome == "drift" else []
    share, limit = observation.share_of_drifted_columns, policy.drifted_columns
    if share is not None and limit is not None and share >= limit:
        found.append(f"{share:.0%} of the columns drifted, the limit is {limit:.0%}")
    found.append(_drop_on_labels(policy, champion, observation))
    if observation.estimate and observation.estimate.trustworthy:
        found.append(_drop(policy, champion, "estimated accuracy", observation.estimate))
    return tuple(reason for reason in found if reason)


def _drop(policy: Policy, champion: Champion, name: str, measured: AccuracyEstimate | LabelledAccuracy) -> str:
    """How far an accuracy is down, if even its upper end is further below the champion's than is allowed; or nothing."""
    found = measured.accuracy
    if found is None or found.high >= champion.accuracy.value - policy.accuracy_drop:
        return ""
    return f"{name} {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) against {champion.accuracy.value:.3f} in the test"


def _drop_on_labels(policy: Policy, champion: Champion, observation: Observation) -> str:
    labelled = observation.labelled
    return _drop(policy, champion, f"{labelled.metric} on labels", labelled) if labelled else ""


def _blame_the_model(
    policy: Policy, history: History, windows: Sequence[Observation], why: tuple[str, ...], now: datetime
) -> _Finding | None:
    """Roll back a champion on probation that does badly on labels in windows without drift."""
    champion = history.champion
    stable = [o for o in windows if o.drift.outcome == "no_drift"]
    bad = [o for o in stable if _drop_on_labels(policy, champion, o)]
    on_probation = now - champion.since < timedelta(hours=policy.probation_hours)
    if champion.previous is None or not on_probation or len(bad) < policy.alarmed_windows:
        return None
    reason = f"{len(bad)} windows without drift show it, since version {champion.version} replaced {champion.previous}"
    if waiting := _cooling(policy, history.actions, ("roll_back",), now):
        return _Finding("nothing", (*why, reason, waiting))
    return _Finding("roll_back", (*why, reason))


def _ask_for_labels(
    policy: Policy, actions: Sequence[PastAction], labels: Labels, why: tuple[str, ...], now: datetime
) -> _Finding:
    """There is too little new labelled data to retrain on: name what to label, unless that was done a moment ago."""
    lack = f"{labels.new} new labelled images are fewer than {policy.minimum_new_labels}"
    if waiting := _cooling(policy, actions, ("collect_labels",), now):
        return _Finding("nothing", (*why, lack, waiting))
    wanted = labels.wanted
    named = f"{len(wanted.uncertain)} uncertain and {len(wanted.random)} random images are named for labelling"
    return _Finding("collect_labels", (*why, lack, named), wanted)


def _wait(policy: Policy, actions: Sequence[PastAction], why: tuple[str, ...], now: datetime) -> _Finding | None:
    """Nothing, if a retraining is due but the cooldown, the daily budget or the breaker is against it."""
    found = [_cooling(policy, actions, ("retrain", "roll_back"), now), _spent(policy, actions, now), _broken(policy, actions)]
    against = tuple(reason for reason in found if reason)
    return _Finding("nothing", (*why, *against)) if against else None


def _cooling(policy: Policy, actions: Sequence[PastAction], kinds: tuple[str, ...], now: datetime) -> str:
    """Why the cooldown is not over, or nothing."""
    last = max((action.at for action in actions if action.kind in kinds), default=None)
    if last is None or now - last >= timedelta(hours=policy.cooldown_hours):
        return ""
    hours = (now - last) / timedelta(hours=1)
    return f"the last {' or '.join(kinds)} was {hours:.1f} hours ago, the cooldown is {policy.cooldown_hours:g}"


def _spent(policy: Policy, actions: Sequence[PastAction], now: datetime) -> str:
    """Why today's budget is spent, or nothing."""
    today = sum(action.kind == "retrain" and now - action.at < DAY for action in actions)
    return (
        f"{today} retrainings in 24 hours, the budget is {policy.retrainings_a_day}"
        if today >= policy.retrainings_a_day
        else ""
    )


def _broken(policy: Policy, actions: Sequence[PastAction]) -> str:
    """Why the breaker is open, or nothing. Inconclusive challengers neither open nor close it."""
    in_vain = 0
    for action in actions:
        if action.kind == "reset" or action.outcome == "promote":
            in_vain = 0
        in_vain += action.outcome in ("reject", "failed")
    return f"{in_vain} challengers in a row were rejected or failed: a person must look" if in_vain >= policy.breaker else ""


def worth_labelling(ids: Sequence[str], margins: np.ndarray, k: int, seed: int = 0) -> WorthLabelling:
    """Choose at most `k` of the answers with these ids (n,) and margins (n,): how decided each is."""
    order = np.argsort(margins, kind="stable")
    uncertain = order[: min(k, len(ids)) // 2]
    rest = np.setdiff1d(np.arange(len(ids)), uncertain)
    drawn = np.random.default_rng(seed).choice(rest, min(k, len(ids)) - len(uncertain), replace=False)
    return WorthLabelling(uncertain=tuple(ids[i] for i in uncertain), random=tuple(ids[i] for i in drawn))
