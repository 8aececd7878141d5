"""No query that is asked again and again reads the log to its end, or sorts it. On servers: tests/on_servers."""

from pathlib import Path

from sqlalchemy import text

from filled_log import workspace
from query_plans import filled, slow


def test_an_index_serves_every_query_of_sqlite(tmp_path: Path) -> None:
    found = workspace(tmp_path)
    ids = filled(found)
    assert slow(found, ids) == []


def test_a_query_without_an_index_is_found(tmp_path: Path) -> None:
    found = workspace(tmp_path)
    ids = filled(found)
    with found.engine.begin() as connection:
        connection.execute(text("DROP INDEX inference_window"))
    assert any(problem.startswith("a window: ") for problem in slow(found, ids))
