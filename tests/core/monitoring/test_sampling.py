"""Claims about label requests: what is drawn, and what the labels that come say of all answers, by simulation."""

import numpy as np
import pytest

from openmlops.core.detection.task import DETECTION
from openmlops.core.images.boxes import objects
from openmlops.core.intervals import Strata, weighted_share, wilson
from openmlops.core.monitoring.observed import WorthLabelling
from openmlops.core.monitoring.sampling import Request, counted, draw_request, least_certain
from openmlops.core.types import Interval

TRUE = 0.68


def answers(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of n answers, and whether each is right, which it is as often as its confidence says: 0.68 on average."""
    confidence = 0.25 + 0.75 * rng.beta(1.6, 0.9, size=n) - (0.25 + 0.75 * 1.6 / 2.5 - TRUE)
    return confidence, rng.random(n) < confidence


def asked(confidence: np.ndarray, k: int, seed: int, known: np.ndarray | None = None) -> tuple[list[str], Request]:
    ids = [str(row) for row in range(len(confidence))]
    known = np.zeros(len(ids), bool) if known is None else known
    rows = np.flatnonzero(~known)
    order = least_certain(confidence[rows], np.zeros((len(rows), 0)), rows.tolist(), k)
    return ids, draw_request(ids, known, rows[order], k, seed)


def of_request(ids: list[str], request: Request) -> np.ndarray:
    names = {*request.labels.uncertain, *request.labels.random}
    return np.array([name in names for name in ids])


def interval(ids: list[str], request: Request, labelled: np.ndarray, right: np.ndarray) -> Interval:
    found = counted([{each.prediction: each for each in request.draw}], ids, labelled)
    assert found is not None
    return weighted_share(right[found.rows], found.strata)


def coverage(n: int, runs: int, all_labelled: bool = False) -> tuple[float, float, float, float]:
    """Shares of intervals that hold the true accuracy: of weighted labels, and, as earlier releases measured it, of those that
    are not the least certain; and the means of both."""
    now, before = [], []
    for run in range(runs):
        rng = np.random.default_rng([n, run])
        confidence, right = answers(rng, n)
        ids, request = asked(confidence, 200, run)
        labelled = of_request(ids, request) | all_labelled
        now.append(interval(ids, request, labelled, right))
        uncertain = np.argsort(confidence)[: min(200, n) // 2]
        rest = rng.permutation(np.setdiff1d(np.arange(n), uncertain))
        old = right[rest if all_labelled else rest[: min(200, n) - len(uncertain)]]
        before.append(wilson(int(old.sum()), len(old)))
    share = [float(np.mean([each.low <= TRUE <= each.high for each in found])) for found in (now, before)]
    return (*share, *(float(np.mean([each.value for each in found])) for found in (now, before)))


@pytest.mark.parametrize("n", [200, 500, 2000])
def test_the_interval_of_weighted_labels_holds_the_accuracy_as_often_as_stated(n: int) -> None:
    now, before, mean, mean_before = coverage(n, 150)
    assert now > 0.89, "stated: 0.95; a share of 150 runs is exact to 0.035"
    assert abs(mean - TRUE) < 0.012
    if n < 2000:
        assert before < 0.85, "the defect that weights mend is no longer shown"
        assert mean_before > TRUE + 0.04


@pytest.mark.slow
@pytest.mark.parametrize("all_labelled", [False, True])
@pytest.mark.parametrize("n", [200, 500, 2000])
def test_coverage_in_many_runs(n: int, all_labelled: bool) -> None:
    now, before, mean, mean_before = coverage(n, 3000, all_labelled)
    print(f"n={n} all={all_labelled}: weighted {now:.3f} mean {mean:.3f}; before {before:.3f} mean {mean_before:.3f}")
    assert 0.93 <= now <= 0.97


def test_a_fall_is_seen_as_often_as_an_honest_sample_sees_it() -> None:
    """A model of 0.68 falls to 0.50; alarms are intervals of 200 labels of 500 answers that end below 0.63."""
    alarms = np.zeros(2)
    for run in range(150):
        rng = np.random.default_rng([7, run])
        confidence, _ = answers(rng, 500)
        right = rng.random(500) < confidence - 0.18
        ids, request = asked(confidence, 200, run)
        now = interval(ids, request, of_request(ids, request), right)
        rest = rng.permutation(np.argsort(confidence)[100:])[:100]
        alarms += [now.high < TRUE - 0.05, wilson(int(right[rest].sum()), 100).high < TRUE - 0.05]
    assert alarms[0] / 150 > 0.6 > 0.4 > alarms[1] / 150


def test_the_random_half_is_a_random_sample_of_all_and_the_other_half_the_least_certain_others() -> None:
    confidence, _ = answers(np.random.default_rng(0), 1000)
    ids, request = asked(confidence, 100, 1)
    of = dict(zip(ids, confidence, strict=True))
    uncertain, random = request.labels.uncertain, request.labels.random
    assert (len(uncertain), len(random)) == (50, 50)
    assert not set(uncertain) & set(random)
    assert max(of[name] for name in uncertain) <= min(of[name] for name in set(ids) - {*uncertain, *random})
    times = np.zeros(1000)
    for seed in range(200):
        times[[int(name) for name in asked(confidence, 100, seed)[1].labels.random]] += 1
    shares = times[np.argsort(confidence)].reshape(10, 100).mean(axis=1) / 200
    assert np.abs(shares - 0.05).max() < 0.01, "the least certain are as likely at random as all others"
    assert asked(confidence, 100, 1) == (ids, request)


def test_no_more_is_asked_for_than_there_is() -> None:
    _, request = asked(np.full(3, 0.5), 10, 0)
    assert sorted(request.labels.uncertain + request.labels.random) == ["0", "1", "2"]
    assert asked(np.full(3, 0.5), 0, 0)[1].labels == asked(np.zeros(0), 10, 0)[1].labels == WorthLabelling()
    assert asked(np.full(3, 0.5), 10, 0, np.ones(3, bool))[1] == Request(WorthLabelling(), ())


def test_labels_that_came_of_themselves_before_stand_for_themselves_and_after_for_nothing() -> None:
    """People report what is wrong: 60 wrong answers before the request, all other wrong ones after it."""
    confidence, right = answers(np.random.default_rng(3), 500)
    known = np.zeros(500, bool)
    known[np.flatnonzero(~right)[:60]] = True
    ids, request = asked(confidence, 200, 0, known)
    labelled = known | of_request(ids, request)
    found = interval(ids, request, labelled, right)
    assert found.low <= right.mean() <= found.high
    assert abs(right[labelled & known].mean() - right.mean()) > 0.5
    assert interval(ids, request, labelled | ~right, right) == found
    assert interval(ids, request, np.ones(500, bool), right).value == pytest.approx(right.mean())


def test_while_labels_of_the_newest_request_are_missing_the_one_before_counts() -> None:
    confidence, right = answers(np.random.default_rng(4), 500)
    ids, first = asked(confidence, 200, 0)
    labelled = of_request(ids, first)
    _, second = asked(confidence, 200, 1, labelled)
    draws = [{each.prediction: each for each in request.draw} for request in (second, first)]
    found = counted(draws, ids, labelled)
    assert weighted_share(right[found.rows], found.strata) == interval(ids, first, labelled, right)
    assert len(counted(draws, ids, labelled | of_request(ids, second)).rows) == 400
    assert counted(draws, ids, np.zeros(500, bool)) is counted([], ids, labelled) is None


def test_one_stuck_input_takes_one_uncertain_place() -> None:
    """A camera that sends one picture again and again, of which the model is not sure, beside five kinds of others."""
    rng = np.random.default_rng(5)
    kinds = rng.normal(0, 3, (6, 12))
    kind = np.concatenate([np.full(250, 5), rng.integers(0, 5, 250)])
    features = kinds[kind] + rng.normal(0, 0.4, (500, 12)) * (kind != 5)[:, None] + rng.normal(0, 0.01, (500, 12))
    margins = np.where(kind == 5, 0.01, 0.3 + rng.random(500) * 0.5)
    margins[kind == 0] -= 0.2
    for copies in (list(range(500)), [1000 if each == 5 else row for row, each in enumerate(kind)]):
        order = least_certain(margins, features, copies, 200)
        assert sorted(order) == list(range(500))
        taken = np.bincount(kind[order[:100]], minlength=6)
        assert taken[5] == 1
        assert (taken[:5] >= 8).all(), "each kind is asked about"
    assert (kind[np.argsort(margins)[:100]] == 5).all(), "the defect is no longer shown"


def test_a_detector_is_weighted_too() -> None:
    """It finds 40 % of the boxes: 50 of 50 uncertain images are labelled, and 50 of 950 others."""
    box, found = np.array([[10, 10, 50, 50, 0]], np.float32), np.array([[10, 10, 50, 50, 0.9, 0]], np.float32)
    hits = np.random.default_rng(6).random(100) < np.repeat([0.2, 0.6], 50)
    predictions = objects([found if hit else np.zeros((0, 6), np.float32) for hit in hits])
    strata = Strata(np.repeat([0, 1], 50), np.array([50.0, 950.0]))
    even = DETECTION.labelled(predictions, objects([box] * 100), 1, None, None)
    weighted = DETECTION.labelled(predictions, objects([box] * 100), 1, None, strata)
    assert weighted.accuracy.value == pytest.approx(0.05 * hits[:50].mean() + 0.95 * hits[50:].mean(), abs=0.02)
    assert weighted.accuracy.value > even.accuracy.value + 0.1
    assert weighted.accuracy.low < weighted.accuracy.value < weighted.accuracy.high
    assert (weighted.sampled, even.sampled) == (True, False)
