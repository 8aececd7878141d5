"""Metrics of classes with any names have names of their own in MLflow, which takes them all."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from openmlops.adapters.mlflow_values import MOST_CHARACTERS, distinct_names
from openmlops.adapters.tracking import Tracking

ODD = (
    *("A", "A+", "C", "C++", "C#", "cat", "Cat", "CAT ", "_cat", "cat_", "+", "-", ".", "..", "a/b", "a//b", "/a", "a/", "a"),
    *("a:", "../up", "./here", "né", "ne\u0301", "猫", "犬", "?", "!", "back\\slash", "line\nbreak", "%"),
    *("x" * 300, "x" * 301, "é" * 200),
)


def test_an_ordinary_name_stays_and_one_with_odd_characters_is_made_valid() -> None:
    names = ("test_accuracy", "recall/cat", "recall/traffic light", "precision(B)", "recall/A", "recall/A+")
    found = distinct_names(names)
    assert [found[name] for name in names[:5]] == [
        "test_accuracy",
        "recall/cat",
        "recall/traffic light",
        "precision_B",
        "recall/A",
    ]
    assert found["recall/A+"] == "recall/:41::2b:"


def test_no_two_classes_get_one_name_even_where_case_is_ignored() -> None:
    found = distinct_names([f"test_recall/{name}" for name in ODD])
    assert len({name.casefold() for name in found.values()}) == len(ODD)
    assert all(name.startswith("test_recall/") and len(name) <= MOST_CHARACTERS for name in found.values())


def test_mlflow_takes_the_metrics_of_all_of_them_and_of_more_than_a_thousand_classes(mlflow_uri: str, tmp_path: Path) -> None:
    tracking = Tracking(mlflow_uri, "openmlops", tmp_path / "artifacts")
    run_id = tracking.start("net", {}, {})
    metrics = {f"test_recall/{name}": number / 100 for number, name in enumerate((*ODD, *map(str, range(1000))))}
    tracking.log_metrics(run_id, metrics, datetime(2026, 11, 1, tzinfo=UTC))
    logged = tracking._client.get_run(run_id).data.metrics
    assert sorted(logged.values()) == pytest.approx(sorted(metrics.values()))
