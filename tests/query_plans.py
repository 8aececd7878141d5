"""Which queries of the log, of labels, decisions and the ledger would read a table that grows to its end, or sort it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, insert, text

from filled_log import MODEL, NOW, label, log, promote
from openmlops.adapters.decisions import DecisionRecord
from openmlops.adapters.schema import LABEL
from openmlops.operations.workspace import Workspace

GROWING = ("inference", "decision", "inference_hour")
"""not labels, which people give: all of a model are counted, if some are new"""
ROWS, DECISIONS = 5000, 300
Statement = tuple[str, Any]


def filled(found: Workspace) -> list[str]:
    """Predictions of two models and three versions, labels and decisions; ids of the predictions of the last version."""
    ids: list[str] = []
    for version in (1, 2, 3):
        promote(found, version)
        ids = log(found, ROWS // 3, 30 / version, version)
        log(found, ROWS // 6, 30 / version, version, model="another", mark=f"other{version}")
    label(found, ids[0], used=True)
    with found.engine.begin() as connection:
        connection.execute(insert(LABEL), [{"inference": name, "truth": "0", "at": NOW} for name in ids[1:500]])
    for number in range(DECISIONS):
        found.decisions.append(
            DecisionRecord(
                id=f"{number:012x}", model=MODEL, version=3, at=NOW, by="a test", reasons=("a reason",),
                action="retrain" if number % 50 == 0 else "nothing",
            )
        )  # fmt: skip
    return ids


def readers(found: Workspace, ids: list[str]) -> dict[str, Callable[[], object]]:
    """What servers, watchers, pages and commands read again and again."""
    inference, decisions = found.inference_log, found.decisions
    return {
        "a window": lambda: inference.window(MODEL, 3, 500),
        "where a window was": lambda: inference.stretch(MODEL, 3, 500, NOW),
        "predictions by id": lambda: inference.named(MODEL, ids[:50]),
        "whether one is there": lambda: inference.holds(ids[0]),
        "the newest of a version": lambda: inference.newest(MODEL, 3),
        "how many are newer": lambda: inference.count_after(MODEL, 3, 100),
        "the first and the last": lambda: (inference.first(), inference.last(), inference.payload_bytes()),
        "a page's mark": lambda: found.activity.mark(MODEL),
        "a page's flow": lambda: found.activity.latest(MODEL, 1000),
        "totals": lambda: (found.inference_hours.hours(MODEL), found.inference_hours.count(MODEL, 3)),
        "new labels": lambda: found.labelled_inputs.count_new(MODEL),
        "the latest decisions": lambda: decisions.list(MODEL, 100),
        "the newest decision": lambda: decisions.newest(MODEL),
        "decisions after one": lambda: decisions.after(MODEL, DECISIONS - 5, ("request",)),
        "an open request": lambda: decisions.open_request(MODEL),
        "a decision": lambda: (decisions.find(f"{7:012x}"), decisions.get("00000000000a")),
        "the champion": lambda: (found.ledger.head(MODEL), found.ledger.champion(MODEL)),
    }


def slow(found: Workspace, ids: list[str]) -> list[str]:
    """The plans that do, with the reader and the table."""
    problems = []
    for name, read in readers(found, ids).items():
        with _statements(found.engine) as statements:
            read()
        assert statements, f"{name} asks the database nothing"
        with found.engine.connect() as connection:
            for statement, values in statements:
                if name == "predictions by id":
                    statement = statement.partition(" ORDER BY ")[0]  # sorts those that were asked for, which are few
                problems += [f"{name}: {each}\n{statement}" for each in _problems(connection, statement, values)]
    return problems


@contextmanager
def _statements(engine: Engine) -> Iterator[list[Statement]]:
    """The queries that are sent meanwhile, with their values."""
    sent: list[Statement] = []

    def note(connection: object, cursor: object, statement: str, values: Any, *rest: object) -> None:
        if statement.startswith("SELECT"):
            sent.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _problems(connection: Connection, statement: str, values: Any) -> list[str]:
    words = statement.split()
    is_limited = "LIMIT" in words and "WHERE" not in words
    if connection.dialect.name == "sqlite":
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
        scans = [step for step in plan if step.split()[0] == "SCAN" and step.split()[1] in GROWING and not is_limited]
        return scans + [step for step in plan if "TEMP B-TREE" in step]
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_sort = off"))
        found = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar()
        nodes = list(_nodes((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))
        scans = [node["Node Type"] for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] in GROWING]
        return scans + [node["Node Type"] for node in nodes if node["Node Type"] == "Sort"]
    rows = connection.exec_driver_sql(f"EXPLAIN {statement}", values).mappings().all()
    scans = [f"{row['table']} {row['type']}" for row in rows if row["table"] in GROWING and row["type"] == "ALL"]
    return scans + [row["Extra"] for row in rows if "filesort" in (row["Extra"] or "") or "temporary" in (row["Extra"] or "")]


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
