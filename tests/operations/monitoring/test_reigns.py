"""A window has predictions of the version's present reign, and none that is much older than the others."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from openmlops.operations.monitoring.windows import GREATEST_AGE, collect_inference_data, load_latest_model, reign_of
from openmlops.operations.release import promotion
from openmlops.operations.workspace import Workspace
from small_loop import NOON, fresh_images, send, train

DAY = timedelta(days=1)


def changes(*versions: int):
    return [SimpleNamespace(version=version, at=NOON + number * DAY) for number, version in enumerate(versions)]


def test_a_first_reign_has_no_beginning_and_a_later_one_begins_at_the_change_that_restored_it():
    assert reign_of(changes(1), 1) is None
    assert reign_of(changes(1, 2), 2) is None
    assert reign_of(changes(1, 2, 1), 1) == NOON + 2 * DAY
    assert reign_of(changes(1, 2, 1, 1), 1) == NOON + 2 * DAY
    assert reign_of(changes(2, 2), 2) is None


def test_after_a_rollback_the_window_does_not_reach_into_the_earlier_reign(loop: Workspace):
    """480 of 500 predictions were a month old."""
    first = load_latest_model(loop)
    send(loop, first, fresh_images(90, seed=1)[0], NOON)
    second, trained = train(loop, seed=1, steps=60)
    promotion.promote(loop, f"{second.name}/{second.version}", "for a while", trained.splits, force=True)
    promotion.rollback(loop, first.name, "it was better")
    empty = collect_inference_data(loop, load_latest_model(loop), 200, "log", NOON)
    assert (empty.model.version, empty.n, empty.outside) == (first.version, 0, 90)
    send(loop, first, fresh_images(20, seed=2)[0], datetime.now(UTC))
    window = collect_inference_data(loop, load_latest_model(loop), 100, "log", NOON)
    assert (window.n, window.outside) == (20, 80)


def test_predictions_much_older_than_the_newest_are_left_out(loop: Workspace):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(30, seed=1)[0], NOON)
    send(loop, model, fresh_images(30, seed=2)[0], NOON + GREATEST_AGE + DAY)
    window = collect_inference_data(loop, model, 500, "log", NOON + GREATEST_AGE + 2 * DAY)
    assert (window.n, window.outside) == (30, 30)


def test_one_prediction_of_a_clock_that_is_a_year_ahead_makes_no_other_old(loop: Workspace):
    model = load_latest_model(loop)
    send(loop, model, fresh_images(30, seed=1)[0], NOON)
    send(loop, model, fresh_images(1, seed=2)[0], NOON + 365 * DAY)
    window = collect_inference_data(loop, model, 500, "log", NOON + DAY)
    assert (window.n, window.outside) == (31, 0)
