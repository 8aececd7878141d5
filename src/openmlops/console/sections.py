"""The parts of a model's page, rendered separately, so that only changed parts are rendered again.

Read-only, from ledger, decisions, inference log and MLflow. Missing data is reported with the reason.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from openmlops.console import charts, traffic
from openmlops.console.decision_status import Situation, outcome_text, waiting_text
from openmlops.console.model_state import ModelState, difference, gate_score, read
from openmlops.console.quality import quality
from openmlops.console.registry_cache import Figures, public
from openmlops.console.services import Console
from openmlops.core.gate.rules import RULES
from openmlops.core.types import Comparison, Interval, LedgerEntry, Standing
from openmlops.operations.labelling import queue
from openmlops.operations.monitoring.history import policy_of
from openmlops.operations.release.promotion import champion_stack

SHOWN_DECISIONS = 12
SHOWN_ENTRIES = 12
RECENT = timedelta(minutes=5)


def overview(console: Console, model: str) -> dict[str, Any]:
    """The overview: serving version, drift, accuracy, traffic, and what the latest decision waits for."""
    state, at = read(console.workspace, model), datetime.now(UTC)
    logged = console.workspace.activity.latest(model, traffic.LATEST)
    situation = _situation(console, model, at)
    decided = state.records[-1] if state.records else None
    listing, test = console.registry_cache.look(model), champion_figures(console, state)
    return {
        "state": state,
        "stands_as": state.stands_as(state.champion) if state.champion else "",
        "test": test,
        "quality": quality(console, state, test),
        "gone": next((f.gone for f in listing.versions if f.version == state.champion), ""),
        "lost": listing.lost,
        "is_late": listing.is_late,
        "answered": logged,
        "recent": traffic.since(logged, at, RECENT),
        "times": traffic.percentiles([a.latency_ms for a in logged]) if logged else None,
        "errors": console.errors(),
        "decided": decided,
        "waits": waiting_text(decided, situation, state.champion) if decided and not decided.outcome else "",
        "came": outcome_text(decided) if decided else "",
        "situation": situation,
    }


def standing(console: Console, model: str) -> dict[str, Any]:
    """What acts are decided on: the champion, the newest row of the ledger, and the version that a rollback restores."""
    entries = console.workspace.ledger.history(model)
    deleted = {f.version for f in console.registry_cache.look(model).versions if f.gone.startswith("deleted")}
    stack = champion_stack(entries)
    earlier = [version for version in reversed(stack[:-1]) if version != stack[-1] and version not in deleted]
    return {"seen": Standing.of(entries[-1] if entries else None), "previous": earlier[0] if earlier else None}


def drift_alert(console: Console, model: str) -> dict[str, Any]:
    """An alert if the champion's last window shows drift, if its score is low, or if something is wrong in the process that
    serves this page."""
    state = read(console.workspace, model)
    test = champion_figures(console, state)
    decided = state.records[-1] if state.records else None
    situation = _situation(console, model, datetime.now(UTC))
    waits = waiting_text(decided, situation, state.champion) if decided and not decided.outcome else ""
    return {
        "state": state,
        "test": test,
        "quality": quality(console, state, test),
        "decided": decided,
        "waits": waits,
        "problems": console.conditions.all(),
        "undelivered": console.workspace.outbox.waiting(model),
    }


def drift(console: Console, model: str) -> dict[str, Any]:
    """The drift statistic over time, and the columns of the last window."""
    state = read(console.workspace, model)
    columns = state.latest[1].drift.columns[:8] if state.latest else ()
    widest = max((abs(column.shift) for column in columns), default=1.0) or 1.0
    return {"chart": charts.drift(state), "columns": columns, "widest": widest}


def accuracy(console: Console, model: str) -> dict[str, Any]:
    """Accuracy over time, estimated and on labels."""
    state = read(console.workspace, model)
    test = champion_figures(console, state)
    chart = charts.accuracy(state, test.score if test else None)
    return {"chart": chart, "is_late": console.registry_cache.look(model).is_late}


def recent_traffic(console: Console, model: str) -> dict[str, Any]:
    """Traffic and latency."""
    bins = traffic.binned(console.workspace.activity.latest(model, traffic.LATEST))
    return {"charts": (charts.predictions(bins), charts.latency(bins)), "n": sum(b.n for b in bins), "most": traffic.LATEST}


def earlier_traffic(console: Console, model: str) -> dict[str, Any]:
    """Traffic and latency of days whose predictions are totals now."""
    return {"charts": charts.earlier(traffic.daily(console.workspace.inference_hours.hours(model)))}


def ledger(console: Console, model: str) -> dict[str, Any]:
    """The ledger entries, newest first, with the gate's comparisons."""
    state = read(console.workspace, model)
    rows = [(entry, _compared(entry)) for entry in reversed(state.entries)]
    return {"rows": rows, "shown": SHOWN_ENTRIES, "rules": RULES}


def decisions(console: Console, model: str) -> dict[str, Any]:
    """The latest decisions, newest first, with their outcomes."""
    state = read(console.workspace, model)
    situation = _situation(console, model, datetime.now(UTC))
    rows = [(record, outcome_text(record), "") for record in reversed(state.records[-SHOWN_DECISIONS:])]
    if rows and not rows[0][1]:
        rows[0] = (rows[0][0], "", waiting_text(rows[0][0], situation, state.champion))
    return {"rows": rows, "reported": {record.id for record, *_ in rows if console.reports.has(model, record.id)}}


def versions(console: Console, model: str) -> dict[str, Any]:
    """All versions with their scores."""
    state, listing = read(console.workspace, model), console.registry_cache.look(model)
    figures = {found.version: found for found in listing.versions}
    numbers = sorted({*figures, *state.versions()}, reverse=True)
    rows = [(n, state.stands_as(n), figures.get(n), _gate_score_of(state, n)) for n in numbers]
    return {"rows": rows, "listing": listing}


def last_cycle(console: Console, model: str) -> dict[str, Any]:
    """The cycle started here last, running or ended."""
    return {"turn": console.cycle_runs.last(model)}


def examples(console: Console, model: str) -> dict[str, Any]:
    """The open label request; the example images are loaded separately (`console.examples`)."""
    is_ours = model == console.workspace.model_name
    return {"todo": queue.current_request(console.workspace, model) if is_ours else None}


PARTS: dict[str, Callable[[Console, str], dict[str, Any]]] = {
    "standing": standing,
    "now": overview,
    "alarm": drift_alert,
    "drift": drift,
    "accuracy": accuracy,
    "flow": recent_traffic,
    "earlier": earlier_traffic,
    "ledger": ledger,
    "decisions": decisions,
    "versions": versions,
    "turn": last_cycle,
    "examples": examples,
}
"""part name -> values of its template `templates/parts/<name>.html`; the name is also the last segment of its URL"""

_NOW = (
    ("alarm", "sse:decisions, sse:ledger, sse:problems"),
    ("now", "sse:ledger, sse:decisions, sse:flow throttle:3s"),
    ("turn", "sse:turn"),
)
_STATE = (("drift", "sse:decisions, sse:ledger"), ("ledger", "sse:ledger"))
_PREDICTIONS = (("accuracy", "sse:decisions, sse:ledger"), ("decisions", "sse:decisions"))
_REST = (
    ("versions", "sse:ledger"),
    ("flow", "sse:flow throttle:5s"),
    ("earlier", "sse:ledger"),
    ("examples", "sse:ledger, sse:decisions"),
)

LAYOUT = ((_NOW,), (_STATE, _PREDICTIONS), (_REST,))
"""groups of columns of parts in page order, each part with the events upon which it is rendered again"""


def whole(console: Console, model: str) -> dict[str, Any]:
    """Values of the page besides its parts: preconditions of actions, and links to MLflow and ZenML."""
    settings = console.workspace.settings
    return {
        "preconditions": {
            "promote": console.preconditions.to_promote(model),
            "cycle": console.preconditions.to_run_cycle(model),
        },
        "mlflow": public(settings.tracking_uri),
        "zenml": public(settings.zenml_store_url),
    }


def _compared(entry: LedgerEntry) -> list[tuple[Comparison, Interval]]:
    return [(compared, difference(compared)) for compared in entry.verdict.comparisons] if entry.verdict else []


def _situation(console: Console, model: str, at: datetime) -> Situation:
    return Situation(console.workspace.labelled_inputs.count_new(model), policy_of(console.workspace), at)


def champion_figures(console: Console, state: ModelState) -> Figures | None:
    """The recorded figures of the champion with its score on the test split; None if MLflow has none."""
    found = console.registry_cache.look(state.model).versions if state.champion else ()
    return next((each for each in found if each.version == state.champion and each.score), None)


def _gate_score_of(state: ModelState, version: int) -> tuple[float, str] | None:
    """The gate's score of a version on the holdout, and the version it was compared with."""
    entry = state.gate_entry(version)
    found = gate_score(entry) if entry else None
    return (found[0], f"against version {found[1].opponent}, {found[1].n:,} images") if found else None
