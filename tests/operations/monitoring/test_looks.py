"""Looking often raises no more alarms: a simulated year without drift, seen at any cadence, before and after in one run.

The statistic of a window is that of one column: the mean of 500 independent rows, so that overlapping windows are as dependent
as their shared rows make them.
"""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from openmlops.adapters.decisions import Basis, DecisionRecord, Span
from openmlops.core.monitoring import evidence
from openmlops.core.monitoring.observed import DriftReport, Observation
from openmlops.core.monitoring.policy import Champion, History, Labels, Policy, decide
from openmlops.core.types import Interval
from openmlops.operations.monitoring.history import basis_of, observations_of

WINDOW, AN_HOUR, RATE = 500, 600, 0.01
A_YEAR = 24 * 365 * AN_HOUR
START = datetime(2026, 1, 1, tzinfo=UTC)
CHAMPION = Champion(version=1, since=START, accuracy=Interval(value=0.9, low=0.89, high=0.91))
SPAN = Span(source="log", anchor=START, until=START, n=WINDOW)


def p_values(cadence: int, looks: int, rng: np.random.Generator, shift: float = 0.0) -> np.ndarray:
    """(looks,) p-values of the last WINDOW rows, seen every `cadence` rows; as coarse as those of 2,000 simulated windows."""
    step = math.gcd(cadence, WINDOW)
    sums = rng.normal(shift * step, math.sqrt(step), looks * cadence // step + WINDOW // step)
    total = np.concatenate([[0.0], np.cumsum(sums)])
    end = np.arange(1, looks + 1) * cadence // step + WINDOW // step - cadence // step
    z = np.abs(total[end] - total[end - WINDOW // step]) / math.sqrt(WINDOW)
    exact = np.array([math.erfc(value / math.sqrt(2)) for value in z])
    return np.ceil(exact * 2001) / 2001


def at(row: int) -> datetime:
    return START + timedelta(hours=row / AN_HOUR)


def is_alarm(observations: tuple[Observation, ...], now: datetime) -> bool:
    history = History(champion=CHAMPION, observations=observations[-5:])
    return decide(Policy(), history, Labels(new=10_000), now).action == "retrain"


def alarms(cadence: int, found: np.ndarray) -> tuple[int, int]:
    """Episodes before (windows half of which are new, the latest state of each) and after (the product's functions)."""
    seen: list[DecisionRecord] = []
    old: list[tuple[int, bool]] = []
    before, after = [False], [False]
    for look, p in enumerate(found.tolist()):
        newest = WINDOW + look * cadence
        drift = DriftReport(
            outcome="drift" if p <= RATE else "no_drift", reasons=("it moved",), reference="r", false_alarm_rate=RATE, p_value=p
        )
        basis = basis_of(1, range(newest - WINDOW + 1, newest + 1), SPAN, seen, 1)
        assert basis.anchor is not None
        now = at(newest)
        seen.append(
            DecisionRecord(
                id=str(look), model="m", version=1, at=now, action="nothing", reasons=(), by="test", span=SPAN, basis=basis,
                observation=Observation(at=now, version=1, drift=drift),
            )
        )  # fmt: skip
        if len(seen) > 2 and seen[-3].basis == seen[-2].basis == basis:  # between the first and the last look nothing changes
            del seen[-2]
        seen = seen[-12:]
        after.append(is_alarm(observations_of(seen, "log"), now))
        if old and newest - old[-1][0] < WINDOW / 2:
            old[-1] = (old[-1][0], p <= RATE)
        else:
            old.append((newest, p <= RATE))
        before.append(sum(alarm for _, alarm in old[-3:]) >= 2)
    return tuple(int(np.sum(np.diff(np.array(each, int)) == 1)) for each in (before, after))  # type: ignore[return-value]


def test_looking_every_fifty_answers_alarms_as_seldom_as_looking_at_full_windows():
    """Four hundred windows of traffic without drift. Before: about 13 episodes in a thousand."""
    before, after = alarms(50, p_values(50, 4000, np.random.default_rng(3)))
    assert before >= 3
    assert after == 0


def test_drift_is_still_found_within_three_windows():
    for cadence in (50, 500):
        found = p_values(cadence, 3 * WINDOW // cadence + 1, np.random.default_rng(1), shift=0.3)
        assert alarms(cadence, found)[1] == 1


def test_what_chance_gives_is_computed_as_simulated():
    """Two p-values below 0.05, and their product."""
    drawn = np.random.default_rng(0).uniform(0, 1, (400_000, 2))
    for product in (1e-4, 1e-3):
        simulated = ((drawn <= 0.05).all(axis=1) & (drawn.prod(axis=1) <= product)).mean()
        computed = evidence.by_chance([product, 1.0], 0.05, 1, evidence.YEAR)
        assert abs(computed - simulated) < 4 * math.sqrt(simulated / len(drawn))


def test_alarms_without_a_p_value_or_beyond_all_calibration_are_evidence_at_any_rate():
    hours = [START, START + timedelta(hours=1)]
    assert evidence.doubt([None, 0.009], RATE, hours, 2) == ""
    assert evidence.doubt([evidence.STRONGEST] * 2, RATE, hours, 2) == ""
    assert evidence.doubt([0.009, 0.009], RATE, [START, START + timedelta(days=20)], 2) == ""
    assert "chance alone would raise alarms as strong as these" in evidence.doubt([0.009, 0.009], RATE, hours, 2)


def episodes_a_year(cadence: int, years: int, rng: np.random.Generator) -> float:
    """False episodes a year: an observation begins at the first look that shares no row with the last one."""
    rows = cadence * max(1, math.ceil(WINDOW / cadence))
    n = years * A_YEAR // rows
    found = np.ceil(rng.uniform(size=n) * 2001) / 2001
    count, last = 0, -9
    for newest in np.flatnonzero(found <= RATE).tolist():
        near = [row for row in range(max(newest - 2, 0), newest + 1) if found[row] <= RATE]
        times = [at(row * rows) for row in range(max(newest - 2, 0), newest + 1)]
        if len(near) >= 2 and not evidence.doubt([float(found[row]) for row in near], RATE, times, 2):
            count += newest - last > 2
            last = newest
    return count / years


@pytest.mark.slow
@pytest.mark.parametrize("cadence", [1, 50, 125, 500, 1200, 14_400])
def test_at_most_one_false_episode_a_year_at_any_cadence(cadence: int):
    """From a look at every answer to one a day, at 600 answers an hour; 200 years each."""
    assert episodes_a_year(cadence, 200, np.random.default_rng(cadence)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("cadence", [1, 125])
def test_the_products_own_functions_raise_none_at_other_cadences(cadence: int):
    assert alarms(cadence, p_values(cadence, 20_000, np.random.default_rng(5)))[1] == 0


def test_a_basis_is_new_only_if_no_prediction_is_shared():
    seen: list[DecisionRecord] = []
    for first, anchor in ((1, 100), (100, 100), (101, 200)):
        basis = basis_of(7, range(first, first + 100), SPAN, seen, 1)
        assert basis == Basis(sequence=7, anchor=anchor)
        seen.append(DecisionRecord(
            id=str(first), model="m", version=1, at=START, action="nothing", reasons=(), by="t", span=SPAN, basis=basis,
        ))  # fmt: skip
