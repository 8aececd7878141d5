"""Charts as values: Plotly traces, and the same points as a table for accessibility.

Colours are named by role; `console.js` maps them for the light and the dark theme.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from openmlops.console.formatting import interval, minute
from openmlops.console.model_state import ModelState
from openmlops.console.traffic import Bin
from openmlops.core.monitoring.policy import Observation
from openmlops.core.types import Interval, Value

ROOM = timedelta(minutes=5)
LEVEL = "line-ew-open"
"""Plotly's marker symbol of a short horizontal line, which is visible also for a single point"""
LOG_SCALE = 20.0
"""ratio of the largest to the smallest value from which an axis is logarithmic"""


class Chart(Value):
    """`traces` and `axis` are Plotly's, `span` the displayed time range (empty: all), `head` and `rows` the table; `missing`
    says why there is nothing to plot."""

    id: str
    title: str
    about: str
    traces: tuple[dict[str, Any], ...] = ()
    axis: dict[str, Any] = Field(default_factory=dict)
    span: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    missing: str = ""


def drift(state: ModelState) -> Chart:
    """The drift statistic of each window, and the threshold calibrated for its number of rows."""
    about = "A statistic above the threshold means drift. The threshold is calibrated on the version's own reference."
    chart = Chart(id="drift", title="Drift", about=about)
    seen = [(record, o) for record, o in state.observations if o.drift.statistic is not None]
    if not seen:
        return chart.model_copy(update={"missing": _no_window(state, "tested for drift")})
    at = [o.at for _, o in seen]
    statistics = [o.drift.statistic or 0.0 for _, o in seen]
    thresholds = [o.drift.threshold or 0.0 for _, o in seen]
    texts = [_drift_text(o) for _, o in seen]
    symbols = ["triangle-up" if o.drift.outcome == "drift" else "circle" for _, o in seen]
    traces = (
        _line("statistic", at, statistics, "ink", text=texts, symbols=symbols, colours=[_drift_colour(o) for _, o in seen]),
        _line("threshold", at, thresholds, "muted", dash="dash", symbols=[LEVEL] * len(at)),
    )
    rows = tuple(
        (
            minute(o.at),
            str(o.version),
            f"{o.drift.n:,}",
            f"{o.drift.statistic:.1f}",
            f"{o.drift.threshold:.1f}",
            o.drift.outcome.replace("_", " "),
            moved_columns(o),
        )
        for _, o in reversed(seen)
    )
    head = ("at", "version", "rows", "statistic", "threshold", "outcome", "shifted columns, largest shift first")
    return chart.model_copy(
        update={"traces": traces, "axis": _scale([*statistics, *thresholds]), "span": _span(state), "head": head, "rows": rows}
    )


def moved_columns(observation: Observation, most: int = 3) -> str:
    """The columns that shifted, and by how much, as text."""
    moved = [column for column in observation.drift.columns if column.moved]
    named = ", ".join(f"{column.name} {column.shift:+.2f}" for column in moved[:most])
    return f"{named}, and {len(moved) - most} more" if len(moved) > most else named or "none"


def accuracy(state: ModelState, test: Interval | None) -> Chart:
    """Accuracy estimated from confidence and measured on labels, with 95 % intervals."""
    about = "With 95 % intervals. Hollow markers are not reliable: estimated under drift or from few predictions."
    chart = Chart(id="accuracy", title="Accuracy", about=about)
    estimated = [(o, o.estimate.accuracy) for _, o in state.observations if o.estimate and o.estimate.accuracy]
    labelled = [(o, o.labelled.accuracy) for _, o in state.observations if o.labelled]
    if not estimated and not labelled:
        return chart.model_copy(update={"missing": _no_window(state, "evaluated for accuracy")})
    traces = []
    if labelled:
        traces.append(_intervals("on labels", labelled, "accent", ["circle"] * len(labelled)))
    if estimated:
        shapes = ["diamond" if o.estimate and o.estimate.trustworthy else "diamond-open" for o, _ in estimated]
        traces.append(_intervals("estimated", estimated, "muted", shapes))
    if test:
        times = [o.at for _, o in state.observations]
        ends = [min(times), max(times)]
        traces.append(_line("champion on the test split", ends, [test.value] * 2, "ink", dash="dot", symbols=[LEVEL] * 2))
    shown = [o for _, o in reversed(state.observations) if o.labelled or (o.estimate and o.estimate.accuracy)]
    head = ("at", "version", "on labels", "labels", "estimated", "reliable")
    rows = tuple(map(_accuracy_row, shown))
    return chart.model_copy(
        update={"traces": tuple(traces), "axis": {"tickformat": ".0%"}, "span": _span(state), "head": head, "rows": rows}
    )


def predictions(bins: Sequence[Bin]) -> Chart:
    """Predictions per minute."""
    about = "Predictions per minute over time."
    chart = Chart(id="answers", title="Traffic", about=about)
    if not bins:
        return chart.model_copy(update={"missing": NO_TRAFFIC})
    at, rates = [b.at for b in bins], [b.a_minute for b in bins]
    bars = {"type": "bar", "name": "predictions per minute", "x": _times(at), "y": rates, "role": "accent"}
    rows = tuple((minute(b.at), f"{b.n:,}", f"{b.a_minute:.1f}") for b in reversed(bins))
    shown = {"traces": (bars,), "axis": {"rangemode": "tozero"}, "head": ("from", "predictions", "per minute"), "rows": rows}
    return chart.model_copy(update=shown)


def latency(bins: Sequence[Bin]) -> Chart:
    """Latency, 50th and 99th percentile."""
    about = "Milliseconds from the arrival of a request until its prediction is passed to the log."
    chart = Chart(id="latency", title="Latency", about=about)
    filled = [b for b in bins if b.n]
    if not filled:
        return chart.model_copy(update={"missing": NO_TRAFFIC})
    at = [b.at for b in filled]
    traces = (
        _line("p50", at, [b.p50 for b in filled], "accent"),
        _line("p99", at, [b.p99 for b in filled], "ink", dash="dot"),
    )
    rows = tuple((minute(b.at), f"{b.p50:.1f}", f"{b.p99:.1f}") for b in reversed(filled))
    shown = {"traces": traces, "axis": {"rangemode": "tozero", "ticksuffix": " ms"}, "head": ("from", "p50, ms", "p99, ms")}
    return chart.model_copy(update={**shown, "rows": rows})


def earlier(days: Sequence[Bin]) -> tuple[Chart, ...]:
    """Traffic and latency of days whose predictions are totals now; none if there are no totals."""
    if not days:
        return ()
    about = "Per minute, by day (UTC), of predictions that are no longer kept one by one."
    times = "By day (UTC), of the same predictions; within 12 %."
    return (
        predictions(days).model_copy(update={"id": "earlier-answers", "title": "Earlier traffic", "about": about}),
        latency(days).model_copy(update={"id": "earlier-latency", "title": "Earlier latency", "about": times}),
    )


NO_TRAFFIC = "No predictions yet: start openmlops serve, and send images with openmlops traffic."


def _no_window(state: ModelState, what: str) -> str:
    if not state.observations:
        return f"No window was {what} yet: run openmlops monitor, or a cycle."
    why = "; ".join(state.observations[-1][1].drift.reasons)
    return f"No window could be {what} yet. The latest one: {why}."


def _drift_text(o: Observation) -> str:
    return f"version {o.version}, {o.drift.n} rows<br>shifted: {moved_columns(o)}"


def _drift_colour(o: Observation) -> str:
    return "bad" if o.drift.outcome == "drift" else "accent"


def _accuracy_row(o: Observation) -> tuple[str, ...]:
    real, guess = o.labelled, o.estimate
    return (
        minute(o.at),
        str(o.version),
        interval(real.accuracy) if real else "too few labels",
        f"{real.n:,}" if real else "",
        interval(guess.accuracy) if guess and guess.accuracy else "not estimated",
        ("yes" if guess.trustworthy else f"no: {'; '.join(guess.reasons)}") if guess else "",
    )


def _line(
    name: str,
    at: Sequence[datetime],
    values: Sequence[float],
    role: str,
    *,
    dash: str = "solid",
    text: Sequence[str] = (),
    symbols: Sequence[str] = (),
    colours: Sequence[str] = (),
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": _times(at),
        "y": list(values),
        "role": role,
    }
    marker = {"size": 8, "symbol": list(symbols)} if symbols else {"size": 5}
    if text:
        found["text"] = list(text)
    return {**found, "line": {"dash": dash, "width": 2}, "marker": marker, "markerRoles": list(colours)}


def _intervals(name: str, seen: Sequence[tuple[Observation, Interval]], role: str, symbols: Sequence[str]) -> dict[str, Any]:
    line = _line(name, [o.at for o, _ in seen], [found.value for _, found in seen], role, symbols=symbols)
    up, down = [f.high - f.value for _, f in seen], [f.value - f.low for _, f in seen]
    return {
        **line,
        "error_y": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 3, "thickness": 1},
    }


def _scale(values: Sequence[float]) -> dict[str, Any]:
    least, most = min(values), max(values)
    return {"type": "log", "dtick": 1} if least > 0 and most / least > LOG_SCALE else {"rangemode": "tozero"}


def _span(state: ModelState) -> tuple[str, ...]:
    """A padded time range for windows within minutes; empty if no padding is needed."""
    at = [o.at for _, o in state.observations]
    return tuple(_times([min(at) - ROOM, max(at) + ROOM])) if max(at) - min(at) < ROOM else ()


def _times(at: Sequence[datetime]) -> list[str]:
    """Times without a zone, for Plotly: the page says that all are UTC."""
    return [f"{each:%Y-%m-%d %H:%M:%S.%f}" for each in at]
