"""Claims about decisions: each rule alone, then thirty days on an injected clock."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from openmlops.core.monitoring.accuracy_estimate import AccuracyEstimate, LabelledAccuracy
from openmlops.core.monitoring.drift import DriftReference, DriftReport, calibrate, measure
from openmlops.core.monitoring.policy import (
    Champion,
    Decision,
    History,
    Labels,
    Observation,
    PastAction,
    Policy,
    WorthLabelling,
    decide,
)
from openmlops.core.types import Interval

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Policy()
CHAMPION = Champion(version=2, since=START, accuracy=Interval(value=0.8, low=0.79, high=0.81), previous=1)
CLEAR = DriftReport(outcome="no_drift", reasons=("statistic 20.0",), reference="r", false_alarm_rate=0.01, n=200)
DRIFTED = CLEAR.model_copy(update={"outcome": "drift", "reasons": ("statistic 90.0 is above 40.0",)})
UNKNOWN = CLEAR.model_copy(update={"outcome": "not_measurable", "reasons": ("12 rows are too few",)})
PLENTY = Labels(new=900)
WANTED = WorthLabelling(uncertain=("a",), random=("b", "c"))


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.03, high=value + 0.03)


def labelled(value: float) -> LabelledAccuracy:
    return LabelledAccuracy(accuracy=interval(value), n=400, error=None, covered=None)


def windows(*reports: DriftReport, **measured: object) -> tuple[Observation, ...]:
    """One window an hour, from an hour after the champion's promotion."""
    return tuple(
        Observation(at=START + (i + 1) * HOUR, version=2, drift=report).model_copy(update=measured)
        for i, report in enumerate(reports)
    )


def after(
    observations: tuple[Observation, ...],
    *actions: PastAction,
    labels: Labels = PLENTY,
    policy: Policy = POLICY,
    hours: float = 10,
) -> Decision:
    return decide(policy, History(champion=CHAMPION, observations=observations, actions=actions), labels, START + hours * HOUR)


def retrained(hours: float, outcome: str = "reject") -> PastAction:
    return PastAction.model_validate({"at": START + hours * HOUR, "kind": "retrain", "outcome": outcome})


def test_one_alarm_of_three_windows_is_not_acted_upon() -> None:
    decision = after(windows(CLEAR, DRIFTED, CLEAR))
    assert decision.action == "nothing"
    assert "1 of the last 3 windows" in decision.reasons[0]


def test_two_alarms_of_three_windows_are_answered_by_retraining_and_both_numbers_are_given() -> None:
    decision = after(windows(CLEAR, DRIFTED, CLEAR, DRIFTED))
    assert decision.action == "retrain"
    assert "2 of the last 3 windows" in decision.reasons[0]
    assert DRIFTED.reasons[0] in decision.reasons
    assert "900 new labelled images" in decision.reasons[-1]


def test_without_a_judged_window_nothing_is_decided() -> None:
    assert after(()).action == "not_measurable"
    decision = after(windows(CLEAR, CLEAR, UNKNOWN))
    assert (decision.action, decision.reasons) == ("not_measurable", UNKNOWN.reasons)


def test_windows_that_could_not_be_measured_count_neither_way() -> None:
    assert after(windows(DRIFTED, UNKNOWN, UNKNOWN, UNKNOWN, DRIFTED)).action == "retrain"


def test_the_windows_of_another_version_or_an_earlier_reign_say_nothing_about_the_champion() -> None:
    of_another = tuple(o.model_copy(update={"version": 1}) for o in windows(DRIFTED, DRIFTED))
    before = tuple(o.model_copy(update={"at": START - HOUR}) for o in windows(DRIFTED, DRIFTED))
    assert after(of_another).action == after(before).action == "not_measurable"


@pytest.mark.parametrize(
    "measured",
    [
        {"share_of_drifted_columns": 0.5},
        {"labelled": labelled(0.7)},
        {"estimate": AccuracyEstimate(accuracy=interval(0.7), n=400, trustworthy=True, reasons=())},
    ],
)
def test_columns_labels_and_trusted_estimates_raise_the_alarm_too(measured: dict[str, object]) -> None:
    assert after(windows(CLEAR, CLEAR, **measured), hours=100).action == "retrain"


@pytest.mark.parametrize(
    "measured",
    [
        {"share_of_drifted_columns": 0.49},
        {"labelled": labelled(0.73)},
        {"estimate": AccuracyEstimate(accuracy=interval(0.3), n=400, trustworthy=False, reasons=("drift",))},
        {"estimate": AccuracyEstimate(accuracy=None, n=0, trustworthy=False, reasons=("no answers",))},
    ],
)
def test_small_drops_and_untrusted_estimates_raise_none(measured: dict[str, object]) -> None:
    assert after(windows(CLEAR, CLEAR, **measured)).action == "nothing"


def test_labels_that_show_a_loss_are_enough_where_drift_was_not_measurable() -> None:
    assert after(windows(UNKNOWN, UNKNOWN, labelled=labelled(0.6)), hours=100).action == "retrain"


def test_too_few_new_labels_are_collected_and_the_lack_is_said() -> None:
    decision = after(windows(DRIFTED, DRIFTED), labels=Labels(new=0, wanted=WANTED))
    assert decision.action == "collect_labels"
    assert decision.labels == WANTED
    assert any("0 new labelled images, fewer than the required 500" in reason for reason in decision.reasons)


def test_labels_are_asked_for_once_in_a_cooldown() -> None:
    asked = PastAction(at=START + 5 * HOUR, kind="collect_labels")
    few = Labels(new=499, wanted=WANTED)
    assert after(windows(DRIFTED, DRIFTED), asked, labels=few, hours=10.9).action == "nothing"
    assert after(windows(DRIFTED, DRIFTED), asked, labels=few, hours=11).action == "collect_labels"


def test_a_new_champion_that_does_badly_without_drift_is_rolled_back() -> None:
    decision = after(windows(CLEAR, CLEAR, labelled=labelled(0.6)))
    assert decision.action == "roll_back"
    assert "version 2 replaced 1" in decision.reasons[-1]


def test_nothing_is_rolled_back_under_drift_after_probation_or_without_a_predecessor() -> None:
    bad = windows(CLEAR, CLEAR, labelled=labelled(0.6))
    first = CHAMPION.model_copy(update={"previous": None})
    assert after(windows(DRIFTED, DRIFTED, labelled=labelled(0.6))).action == "retrain"
    assert after(bad, hours=48).action == "retrain"
    assert decide(POLICY, History(champion=first, observations=bad), PLENTY, START + 10 * HOUR).action == "retrain"


def test_two_versions_are_not_rolled_back_and_forth() -> None:
    back = PastAction(at=START, kind="roll_back")
    assert after(windows(CLEAR, CLEAR, labelled=labelled(0.6)), back, hours=5).action == "nothing"


def test_a_cooldown_follows_a_retraining() -> None:
    assert after(windows(DRIFTED, DRIFTED), retrained(4.1)).action == "nothing"
    assert after(windows(DRIFTED, DRIFTED), retrained(4)).action == "retrain"


def test_the_daily_budget_is_kept_over_any_24_hours() -> None:
    twice = (retrained(1, "inconclusive"), retrained(10, "inconclusive"))
    decision = after(windows(DRIFTED, DRIFTED), *twice, hours=24.9)
    assert decision.action == "nothing"
    assert "the limit is 2" in decision.reasons[-1]
    assert after(windows(DRIFTED, DRIFTED), *twice, hours=25).action == "retrain"


def test_three_challengers_in_vain_open_the_breaker_until_a_person_resets_it() -> None:
    vain = (retrained(10), retrained(40, "failed"), retrained(70))
    observations = windows(DRIFTED, DRIFTED)
    decision = after(observations, *vain, hours=500)
    assert decision.action == "nothing"
    assert "manual review required" in decision.reasons[-1]
    assert after(observations, *vain, PastAction(at=START + 80 * HOUR, kind="reset"), hours=500).action == "retrain"
    assert after(observations, *vain[:2], retrained(60, "promote"), vain[2], hours=500).action == "retrain"


# Thirty days, a window of 200 rows an hour, judged by the real drift measure at a false-alarm rate of 1 %.

NORMAL, SHIFTED = 0.0, 0.4


def frame(mean: float, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {f"embedding.{i}": rng.normal(mean, 1, n).astype(np.float32) for i in range(8)}


@pytest.fixture(scope="module")
def worlds() -> dict[float, DriftReference]:
    """The reference of a model trained in each state of the world."""
    rng = np.random.default_rng(1)
    return {mean: calibrate(frame(mean, 2000, rng), sizes=(200,)) for mean in (NORMAL, SHIFTED)}


def replay(worlds: dict[float, DriftReference], world: dict[int, float], outcome: str = "promote", seed: int = 2) -> list[int]:
    """Hours at which 30 days of windows led to a retraining; `world` gives the mean from each hour on."""
    rng = np.random.default_rng(seed)
    mean, history = NORMAL, History(champion=CHAMPION)
    reference, retrainings = worlds[NORMAL], []
    for hour in range(1, 30 * 24):
        now, mean = START + hour * HOUR, world.get(hour, mean)
        seen = Observation(at=now, version=history.champion.version, drift=measure(frame(mean, 200, rng), reference))
        history = history.model_copy(update={"observations": (*history.observations, seen)[-50:]})
        if decide(POLICY, history, PLENTY, now).action != "retrain":
            continue
        retrainings.append(hour)
        history = history.model_copy(update={"actions": (*history.actions, retrained(hour, outcome))})
        if outcome == "promote":
            reference = worlds[mean]
            champion = history.champion.model_copy(update={"version": len(retrainings) + 2, "since": now})
            history = history.model_copy(update={"champion": champion})
    return retrainings


def test_thirty_days_without_drift_lead_to_at_most_one_retraining(worlds: dict[float, DriftReference]) -> None:
    assert len(replay(worlds, {})) <= 1


def test_a_step_is_answered_within_three_windows_and_once(worlds: dict[float, DriftReference]) -> None:
    retrainings = replay(worlds, {240: SHIFTED})
    assert next(hour for hour in retrainings if hour >= 240) <= 242
    assert len(retrainings) <= 2


def test_oscillation_stays_within_the_daily_budget(worlds: dict[float, DriftReference]) -> None:
    """The world turns every 5 hours and each retraining is outdated by the next turn."""
    hours = np.array(replay(worlds, {hour: (NORMAL, SHIFTED)[hour // 5 % 2] for hour in range(5, 720, 5)}))
    within_a_day = [((hours > hour - 24) & (hours <= hour)).sum() for hour in hours]
    assert len(hours) > 30
    assert max(within_a_day) == POLICY.retrainings_a_day
    assert np.diff(hours).min() >= POLICY.cooldown_hours


def test_challengers_that_never_pass_the_gate_are_trained_three_times(worlds: dict[float, DriftReference]) -> None:
    assert len(replay(worlds, {240: SHIFTED}, outcome="reject")) == POLICY.breaker
