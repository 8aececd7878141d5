"""Claims about drift: the stated false-alarm rate, the power, and the third answer."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openmlops.core.monitoring.drift import DriftReference, DriftReport, calibrate, measure
from openmlops.errors import DataError, ModelCorrupt

COLUMNS = 20
RATE = 0.05
MIXING = np.random.default_rng(7).normal(size=(COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)


def frame(x: np.ndarray) -> dict[str, np.ndarray]:
    return {f"embedding.{i:02d}": column.astype(np.float32) for i, column in enumerate(x.T)}


def draw(n: int, rng: np.random.Generator) -> np.ndarray:
    """Skewed, correlated features, as embeddings after a ReLU are."""
    return np.exp(0.5 * rng.standard_normal((n, COLUMNS)) @ MIXING)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return draw(2000, np.random.default_rng(1))


@pytest.fixture(scope="module")
def reference(rows: np.ndarray) -> DriftReference:
    return calibrate(frame(rows), sizes=(50, 200, 500), false_alarm_rate=RATE)


@cache
def numbered(i: int) -> DriftReference:
    return calibrate(frame(draw(2000, np.random.default_rng(20 + i))), sizes=(50, 200, 500), false_alarm_rate=RATE, seed=i)


@pytest.mark.parametrize(("references", "windows"), [(3, 40), pytest.param(8, 125, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [50, 120, 500, 900])
def test_false_alarms_over_null_windows_are_at_most_one_and_a_half_times_the_stated_rate(
    size: int, references: int, windows: int
) -> None:
    """At calibrated sizes, between them and beyond the largest; so many windows of new data for each of so many references."""
    rng = np.random.default_rng(size)
    drawn = [(numbered(i), frame(draw(size, rng))) for i in range(references) for _ in range(windows)]
    alarms = [measure(window, reference).outcome == "drift" for reference, window in drawn]
    assert len(alarms) == references * windows
    assert sum(alarms) <= 1.5 * RATE * len(alarms)


def test_p_values_without_drift_are_spread_over_zero_to_one(reference: DriftReference) -> None:
    rng = np.random.default_rng(2)
    p_values = np.array([measure(frame(draw(50, rng)), reference).p_value for _ in range(400)], dtype=float)
    assert np.all(np.abs(np.quantile(p_values, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]) < 0.12)


def test_a_shift_of_half_a_deviation_in_one_column_is_found_and_named(reference: DriftReference) -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(20):
        x = draw(200, rng)
        x[:, 4] += 0.5 * x[:, 4].std()
        report = measure(frame(x), reference)
        found += report.outcome == "drift" and report.columns[0].name == "embedding.04" and report.columns[0].moved
    assert found == 20


def test_the_shift_is_given_in_reference_standard_deviations(reference: DriftReference, rows: np.ndarray) -> None:
    x = draw(500, np.random.default_rng(4))
    x[:, 4] += 2 * rows[:, 4].std()
    column = measure(frame(x), reference).columns[0]
    assert column.name == "embedding.04"
    assert column.shift == pytest.approx(2, abs=0.2)
    assert column.window_mean - column.reference_mean == pytest.approx(column.shift * rows[:, 4].std(), rel=1e-5)


def test_reference_and_current_never_come_from_one_batch(reference: DriftReference, rows: np.ndarray) -> None:
    """A window cut from the reference, whole, shuffled, halved or mixed, is refused instead of found to be without drift."""
    rng = np.random.default_rng(5)
    other = draw(200, rng)
    windows = (rows, rng.permutation(rows), rows[:500], rows[::2] + 1e-9, np.concatenate([rows[:300], other]))
    reports = [measure(frame(window), reference) for window in windows]
    assert [report.outcome for report in reports] == ["not_measurable"] * 5
    assert all("itself" in report.reasons[0] for report in reports)


def rubbish() -> dict[str, object]:
    """Twenty windows that say nothing about drift."""
    good = frame(draw(200, np.random.default_rng(6)))
    name = "embedding.03"

    def value(bad: float) -> dict[str, np.ndarray]:
        column = good[name].copy()
        column[7] = bad
        return {**good, name: column}

    return {
        "none": None,
        "a list": [1, 2, 3],
        "an array": np.ones((200, COLUMNS)),
        "no columns": {},
        "no rows": {key: column[:0] for key, column in good.items()},
        "one row": {key: column[:1] for key, column in good.items()},
        "one row too few": {key: column[:49] for key, column in good.items()},
        "one row, repeated": {key: np.repeat(column[:1], 200) for key, column in good.items()},
        "few rows, repeated": {key: np.tile(column[:10], 20) for key, column in good.items()},
        "one NaN": value(np.nan),
        "all NaN": {**good, name: np.full(200, np.nan, np.float32)},
        "one inf": value(np.inf),
        "minus inf": value(-np.inf),
        "a missing column": {key: column for key, column in good.items() if key != name},
        "an extra column": {**good, "embedding.99": good[name]},
        "texts": {**good, name: good[name].astype(str)},
        "objects": {**good, name: good[name].astype(object)},
        "a list as column": {**good, name: good[name].tolist()},
        "columns of different lengths": {**good, name: good[name][:150]},
        "a stuck column": {**good, name: np.full(200, 1.5, np.float32)},
    }


def test_an_exception_never_becomes_no_drift(reference: DriftReference) -> None:
    """Twenty rubbish frames, twenty times `not_measurable` with a reason and without a number."""
    windows = rubbish()
    assert len(windows) == 20
    for name, window in windows.items():
        report = measure(window, reference)
        assert (name, report.outcome) == (name, "not_measurable")
        assert report.reasons
        assert report.statistic is None
        assert report.p_value is None


def test_a_column_stuck_at_the_end_of_its_range_is_drift(reference: DriftReference, rows: np.ndarray) -> None:
    """As no pixel is clipped any more once the contrast is low."""
    x = draw(200, np.random.default_rng(14))
    x[:, 3] = rows[:, 3].min()
    report = measure(frame(x), reference)
    assert (report.outcome, report.columns[0].name) == ("drift", "embedding.03")


def test_huge_values_are_drift_and_still_numbers(reference: DriftReference) -> None:
    x = draw(200, np.random.default_rng(8))
    x[:, 2] *= 1e30
    report = measure(frame(x), reference)
    assert report.outcome == "drift"
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_the_order_of_rows_and_columns_does_not_matter(reference: DriftReference) -> None:
    x = draw(200, np.random.default_rng(9))
    window = frame(x)
    turned = dict(reversed(frame(x[::-1]).items()))
    assert measure(window, reference).statistic == pytest.approx(measure(turned, reference).statistic)


def test_repeated_rows_count_once(reference: DriftReference) -> None:
    x = draw(60, np.random.default_rng(10))
    once, thrice = measure(frame(x), reference), measure(frame(np.tile(x, (3, 1))), reference)
    assert thrice.n == once.n == 60
    assert thrice.statistic == pytest.approx(once.statistic)
    assert "120 duplicate rows" in thrice.reasons[-1]


def test_a_constant_reference_column_is_expected_and_not_judged(rows: np.ndarray) -> None:
    x = np.column_stack([rows[:400, :5], np.zeros(400)])
    reference = calibrate(frame(x), sizes=(50,), false_alarm_rate=RATE)
    assert reference.constant == ("embedding.05",)
    window = np.column_stack([draw(100, np.random.default_rng(11))[:, :5], np.zeros(100)])
    assert measure(frame(window), reference).outcome == "no_drift"
    assert measure(frame(window[:, :5]), reference).outcome == "not_measurable"


@pytest.mark.parametrize("references", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_small_reference_still_keeps_its_rate(rows: np.ndarray, references: int) -> None:
    """200 rows for 20 columns, windows as large as half of it: the error of the reference itself is large."""
    alarms = 0
    rng = np.random.default_rng(12)
    for start in range(0, 200 * references, 200):
        reference = calibrate(frame(rows[start : start + 200]), sizes=(50, 100), false_alarm_rate=RATE, seed=start)
        alarms += sum(measure(frame(draw(100, rng)), reference).outcome == "drift" for _ in range(100))
    assert alarms <= 1.5 * RATE * 100 * references


def test_the_same_seed_gives_the_same_reference_and_it_survives_storage(rows: np.ndarray, tmp_path: Path) -> None:
    first, again = (calibrate(frame(rows[:400]), sizes=(50,), seed=3) for _ in range(2))
    loaded = DriftReference.load(first.save(tmp_path / "drift.npz"))
    window = frame(draw(100, np.random.default_rng(13)))
    assert first.fingerprint == again.fingerprint == loaded.fingerprint
    assert measure(window, loaded) == measure(window, first)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\x80\x04N."])
def test_a_broken_reference_file_is_an_error_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "drift.npz"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt, match="not a readable drift reference"):
        DriftReference.load(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": np.array([1.0, np.nan])}, "NaN"),
        ({"a": np.ones(400)}, "constant"),
        ({"a": np.arange(60.0)}, "60 reference rows are too few"),
        ({"a": np.arange(400) % 3}, "only 3 of 400"),
    ],
)
def test_no_reference_is_made_of_a_frame_that_cannot_serve_as_one(columns: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        calibrate(columns)
