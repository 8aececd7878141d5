"""Feature frames: what is refused, in words."""

import numpy as np
import pytest

from openmlops.core.monitoring import feature_frames


def test_a_frame_of_equal_finite_columns_has_no_defects() -> None:
    assert feature_frames.defects({"a": np.ones(3, np.float32), "b": np.arange(3)}) == ()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (None, "NoneType"),
        ({}, "no columns"),
        ({"a": np.empty(0)}, "no rows"),
        ({"a": [1.0, 2.0]}, "list"),
        ({"a": np.array(["x", "y"])}, "<U1"),
        ({"a": np.array([True, False])}, "bool"),
        ({"a": np.ones((2, 2))}, "(2, 2)"),
        ({7: np.ones(2)}, "7"),
        ({"a": np.array([1.0, np.nan])}, "1 of 2"),
        ({"a": np.array([1.0, -np.inf])}, "1 of 2"),
        ({"a": np.array([1.0, 1e300])}, "1 of 2"),
        ({"a": np.ones(2), "b": np.ones(3)}, "2 to 3"),
    ],
)
def test_a_defect_is_named(frame: object, words: str) -> None:
    found = feature_frames.defects(frame)
    assert found
    assert words in found[0]


def test_rows_that_differ_by_float_noise_have_one_key() -> None:
    rows = np.round(np.random.default_rng(0).normal(size=(50, 8)), 2)
    assert np.array_equal(feature_frames.row_keys(rows), feature_frames.row_keys(rows + 1e-7))
    assert len(np.unique(feature_frames.row_keys(rows))) == 50
