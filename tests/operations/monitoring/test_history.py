"""What a decision looks back at: each stretch of traffic once, each act once."""

from datetime import UTC, datetime, timedelta

import pytest

from openmlops.adapters.decisions import DecisionRecord, Outcome, Span
from openmlops.core.monitoring.drift import DriftReport
from openmlops.core.monitoring.observed import LabelledAccuracy
from openmlops.core.monitoring.policy import Observation, Policy, WorthLabelling
from openmlops.core.types import Interval
from openmlops.operations.monitoring.history import actions_of, observations_of, policy_of, requested_labels, span_of
from openmlops.operations.workspace import Workspace
from openmlops.settings import Settings

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def times(first: int, n: int = 100) -> list[datetime]:
    """A window of n answers, one a second, that begins after `first` seconds."""
    return [NOON + timedelta(seconds=first + row) for row in range(n)]


def record(name: str, span: Span | None = None, version: int = 1, **other) -> DecisionRecord:
    drift = DriftReport(outcome="drift", reasons=(name,), reference="r", false_alarm_rate=0.01)
    given = {"action": "nothing", "observation": Observation(at=NOON, version=version, drift=drift), **other}
    return DecisionRecord(id=name, model="m", version=version, at=NOON, reasons=(), by="test", span=span, **given)


def look(starts: list[int], source="log") -> list[DecisionRecord]:
    """A watcher that looks at windows of 100 answers which begin at these seconds."""
    seen: list[DecisionRecord] = []
    for number, start in enumerate(starts):
        seen.append(record(str(number), span_of(times(start), source, seen, 1)))
    return seen


def reasons(records, source="log") -> list[str]:
    return [observation.drift.reasons[0] for observation in observations_of(records, source)]


def test_the_same_window_again_is_one_observation():
    assert reasons(look([0, 0, 0])) == ["0"]


def test_windows_that_share_a_prediction_are_one_observation():
    assert reasons(look([0, 50, 99])) == ["0"]


def test_windows_that_share_none_are_two():
    assert reasons(look([0, 100])) == ["0", "1"]


def test_who_looks_often_sees_as_many_observations_as_who_looks_seldom():
    seldom, often = reasons(look(list(range(0, 1000, 100)))), reasons(look(list(range(0, 1000, 5))))
    assert len(seldom) == len(often) == 10


def test_labels_that_come_after_the_first_look_count():
    first, second = look([0, 10])
    accuracy = LabelledAccuracy(accuracy=Interval(value=0.5, low=0.4, high=0.6), n=90, error=None, covered=None)
    known = second.observation.model_copy(update={"labelled": accuracy})
    (found,) = observations_of([first, second.model_copy(update={"observation": known})], "log")
    assert (found.drift.reasons[0], found.labelled) == ("0", accuracy)


def test_a_window_that_cannot_be_measured_now_is_told_beside_the_one_before():
    first, second = look([0, 10])
    blind = DriftReport(outcome="not_measurable", reasons=("stuck",), reference="r", false_alarm_rate=0.01)
    stuck = second.model_copy(update={"observation": second.observation.model_copy(update={"drift": blind})})
    assert reasons([first, stuck]) == ["0", "stuck"]
    assert reasons([stuck, first]) == ["0"]


def test_the_test_set_is_an_observation_each_time_and_does_not_mix_with_traffic():
    records = [*look([0, 1], "test-set"), *look([0])]
    assert len(observations_of(records, "test-set")) == 2
    assert len(observations_of(records, "log")) == 1


def test_an_empty_window_has_no_span():
    assert span_of([], "log", [], 1) is None


def test_another_version_begins_anew():
    before = look([0])
    assert span_of(times(0), "log", before, 2) == Span(source="log", anchor=times(0)[-1], until=times(0)[-1], n=100)


@pytest.mark.parametrize(
    ("action", "outcome", "expected"),
    [
        ("retrain", None, None),
        ("retrain", "started", ("retrain", None)),
        ("retrain", "promote", ("retrain", "promote")),
        ("retrain", "failed", ("retrain", "failed")),
        ("retrain", "no_data", ("retrain", None)),
        ("roll_back", "rolled_back", ("roll_back", None)),
        ("collect_labels", None, ("collect_labels", None)),
        ("reset", None, ("reset", None)),
        ("request", None, None),
        ("nothing", None, None),
    ],
)
def test_a_retraining_counts_once_it_was_started_and_a_suggestion_does_not(action, outcome, expected):
    came = Outcome(at=NOON, kind=outcome) if outcome else None
    found = [(each.kind, each.outcome) for each in actions_of([record("a", action=action, outcome=came)])]
    assert found == ([expected] if expected else [])


def test_only_the_uncertain_half_of_a_request_is_left_out_of_the_accuracy():
    assert requested_labels([record("a", labels=WorthLabelling(uncertain=("u",), random=("r",)))]) == {"u"}


def test_the_settings_default_to_the_policys_own_numbers():
    assert policy_of(Workspace(Settings())) == Policy()


def test_a_share_of_drifted_columns_of_zero_is_not_used():
    assert policy_of(Workspace(Settings(policy_drifted_columns=0))).drifted_columns is None
