"""What counts labels, and how often."""

from pathlib import Path

import pytest
from sqlalchemy import event

from filled_log import MODEL, NOW, log, workspace
from openmlops.operations.workspace import Workspace


@pytest.fixture
def found(tmp_path: Path) -> Workspace:
    return workspace(tmp_path)


def label(found: Workspace, ids: list[str]) -> None:
    for name in ids:
        found.inference_log.label(name, 0, lambda reported, classes: str(reported), NOW)


def test_labels_are_counted_again_only_if_some_were_added_or_used(found: Workspace) -> None:
    ids = log(found, 10, 1.0)
    others = log(found, 10, 1.0, model="another", mark="o")
    joins: list[str] = []
    event.listen(found.engine, "before_cursor_execute", lambda *given: joins.append(given[2]) if "JOIN" in given[2] else None)
    label(found, ids[:4])
    joins.clear()
    count = found.labelled_inputs.count_new
    assert [count(MODEL), count(MODEL), count("another")] == [4, 4, 0]
    assert len(joins) == 2
    label(found, others[:1])
    assert [count(MODEL), count("another"), count("another")] == [4, 1, 1]
    found.labelled_inputs.mark_used(ids[:3], "d" * 64, NOW)
    assert [count(MODEL), count("another")] == [1, 1]
    joins.clear()
    assert [count(MODEL), count("another")] == [1, 1]
    assert joins == []
