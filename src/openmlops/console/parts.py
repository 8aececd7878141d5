"""The parts of a model's page, each by itself, so that what has changed is rendered again and nothing else.

Everything is read: from the ledger, the decisions, the log and MLflow. What is not there is said to be missing, and why.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from openmlops.console import charts, traffic
from openmlops.console.known import Known, difference, gate_score, read
from openmlops.console.registered import Figures, public
from openmlops.console.services import Console
from openmlops.console.waiting import Situation, came_of, waits_for
from openmlops.core.gate import RULES
from openmlops.core.types import Comparison, Interval, LedgerEntry
from openmlops.operations import labelling
from openmlops.operations.remembering import policy_of

SHOWN_DECISIONS = 12
SHOWN_ENTRIES = 12
RECENT = timedelta(minutes=5)


def now(console: Console, model: str) -> dict[str, Any]:
    """The loop at a glance: who answers, whether the world moved, how good the answers are, and what comes next."""
    known, at = read(console.workspace, model), datetime.now(UTC)
    answered = console.workspace.activity.latest(model, traffic.LATEST)
    situation = _situation(console, model, at)
    decided = known.records[-1] if known.records else None
    return {
        "known": known,
        "test": _test_score(console, known),
        "is_late": console.registered.look(model).is_late,
        "answered": answered,
        "recent": traffic.since(answered, at, RECENT),
        "times": traffic.percentiles([a.latency_ms for a in answered]) if answered else None,
        "errors": console.errors(),
        "decided": decided,
        "waits": waits_for(decided, situation) if decided and not decided.outcome else "",
        "came": came_of(decided) if decided else "",
        "situation": situation,
    }


def alarm(console: Console, model: str) -> dict[str, Any]:
    """Drift in the champion's last window, or nothing."""
    return {"known": read(console.workspace, model)}


def drift(console: Console, model: str) -> dict[str, Any]:
    """The statistic over time, and the columns of the last window."""
    known = read(console.workspace, model)
    columns = known.latest[1].drift.columns[:8] if known.latest else ()
    widest = max((abs(column.shift) for column in columns), default=1.0) or 1.0
    return {"chart": charts.drift(known), "columns": columns, "widest": widest}


def accuracy(console: Console, model: str) -> dict[str, Any]:
    """Estimated and on labels, over time."""
    known = read(console.workspace, model)
    test = _test_score(console, known)
    chart = charts.accuracy(known, test.score if test else None)
    return {"chart": chart, "is_late": console.registered.look(model).is_late}


def flow(console: Console, model: str) -> dict[str, Any]:
    """Traffic and latency."""
    bins = traffic.binned(console.workspace.activity.latest(model, traffic.LATEST))
    return {"charts": (charts.answers(bins), charts.latency(bins)), "n": sum(b.n for b in bins), "most": traffic.LATEST}


def ledger(console: Console, model: str) -> dict[str, Any]:
    """The rows of the ledger, newest first, and what the gate compared."""
    known = read(console.workspace, model)
    rows = [(entry, _compared(entry)) for entry in reversed(known.entries)]
    return {"rows": rows, "shown": SHOWN_ENTRIES, "rules": RULES}


def decisions(console: Console, model: str) -> dict[str, Any]:
    """The latest decisions, newest first, and what came of each."""
    known = read(console.workspace, model)
    situation = _situation(console, model, datetime.now(UTC))
    rows = [(record, came_of(record), "") for record in reversed(known.records[-SHOWN_DECISIONS:])]
    if rows and not rows[0][1]:
        rows[0] = (rows[0][0], "", waits_for(rows[0][0], situation))
    return {"rows": rows, "report_of": console.reports.latest(model)}


def versions(console: Console, model: str) -> dict[str, Any]:
    """Every version, with what was measured of it."""
    known, listing = read(console.workspace, model), console.registered.look(model)
    figures = {found.version: found for found in listing.versions}
    numbers = sorted({*figures, *known.versions()}, reverse=True)
    rows = [(n, known.stands_as(n), figures.get(n), _judged(known, n)) for n in numbers]
    return {"rows": rows, "listing": listing}


def turn(console: Console, model: str) -> dict[str, Any]:
    """The cycle that was started here last, or that runs."""
    return {"turn": console.turns.last(model)}


def examples(console: Console, model: str) -> dict[str, Any]:
    """What is to be labelled; the images themselves are fetched by themselves (`console.examples`)."""
    is_ours = model == console.workspace.model_name
    return {"todo": labelling.request(console.workspace, model) if is_ours else None}


PARTS: dict[str, Callable[[Console, str], dict[str, Any]]] = {
    each.__name__: each for each in (now, alarm, drift, accuracy, flow, ledger, decisions, versions, turn, examples)
}
"""by name, which is also that of the template in `templates/parts`"""

_NOW = (
    ("alarm", "sse:decisions, sse:ledger"),
    ("now", "sse:ledger, sse:decisions, sse:flow throttle:3s"),
    ("turn", "sse:turn"),
)
_STATE = (("drift", "sse:decisions, sse:ledger"), ("ledger", "sse:ledger"))
_ANSWERS = (("accuracy", "sse:decisions, sse:ledger"), ("decisions", "sse:decisions"))
_REST = (("versions", "sse:ledger"), ("flow", "sse:flow throttle:5s"), ("examples", "sse:ledger, sse:decisions"))

LAYOUT = ((_NOW,), (_STATE, _ANSWERS), (_REST,))
"""groups of columns of parts, in the order of the page, and the events upon which each part is rendered anew"""


def whole(console: Console, model: str) -> dict[str, Any]:
    """What the page needs beside its parts: what may be done, and where else there is something to see."""
    settings = console.workspace.settings
    return {
        "obstacles": {"promote": console.obstacles.to_promote(model), "cycle": console.obstacles.to_take_a_turn(model)},
        "mlflow": public(settings.tracking_uri),
        "zenml": public(settings.zenml_store_url),
    }


def _compared(entry: LedgerEntry) -> list[tuple[Comparison, Interval]]:
    return [(compared, difference(compared)) for compared in entry.verdict.comparisons] if entry.verdict else []


def _situation(console: Console, model: str, at: datetime) -> Situation:
    return Situation(console.workspace.labelled_inputs.count_new(model), policy_of(console.workspace), at)


def _test_score(console: Console, known: Known) -> Figures | None:
    found = console.registered.look(known.model).versions if known.champion else ()
    return next((each for each in found if each.version == known.champion and each.score), None)


def _judged(known: Known, version: int) -> tuple[float, str] | None:
    """The gate's own score of a version on the holdout, and who it was compared with."""
    entry = known.judged(version)
    found = gate_score(entry) if entry else None
    return (found[0], f"against version {found[1].opponent}, {found[1].n:,} images") if found else None
