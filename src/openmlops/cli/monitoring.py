"""`monitor`, `cycle`, `watch`, `decisions`, `why`: monitoring, deciding, acting."""

import logging
import signal
import threading
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from openmlops.cli import completion
from openmlops.cli.options import Expect, UseCaseName, seconds
from openmlops.cli.show import Full, Json, is_short, minute, percent, print_json, print_table
from openmlops.errors import NotificationError
from openmlops.operations.workspace import Workspace
from openmlops.terminal import log_to_standard_error, say, working

if TYPE_CHECKING:
    from openmlops.adapters.decisions import DecisionRecord
    from openmlops.operations.monitoring.cycle import CycleOutcome
    from openmlops.operations.monitoring.monitor import MonitoringOutcome


class SourceName(StrEnum):
    """Where the window comes from."""

    log = "log"
    test_set = "test-set"


class ModeName(StrEnum):
    """What may be done about a decision."""

    manual = "manual"
    suggest = "suggest"
    auto = "auto"


Window = Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of latest predictions in the window.")]
Source = Annotated[
    SourceName, typer.Option(help="Predictions to evaluate: from the inference log, or on the frozen test split.")
]
Mode = Annotated[
    ModeName | None, typer.Option(help="manual: report only; suggest: also notify; auto: act. Default: WATCH_MODE.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: SIMULATE_DRIFT=1 openmlops monitor --source test-set --exit-code")(monitor)
    app.command(epilog="Example: openmlops cycle --mode auto --json")(cycle)
    app.command(epilog="Example: openmlops watch --every 5m --mode auto")(watch)
    app.command(epilog="Example: openmlops decisions --last 5")(decisions)
    app.command(epilog="Example: openmlops why 1f37d9a2720c")(why)


def monitor(
    window: Window = 500,
    source: Source = SourceName.log,
    use_case: UseCaseName = None,
    json: Json = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 on drift or a required action, 4 if not measurable.")
    ] = False,
) -> None:
    """Evaluate the champion's recent predictions for drift and accuracy, and decide what to do. Takes no action."""
    from openmlops import api

    with working("Evaluating the latest window"):
        outcome = api.monitor(window, source.value)
    print_json(outcome) if json else _print_monitoring(outcome)
    if exit_code and outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def cycle(
    mode: Mode = None,
    window: Window = 500,
    source: Source = SourceName.log,
    expect: Expect = None,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Run one cycle: monitor and decide; with --mode auto also retrain, gate and promote, or roll back."""
    from openmlops.operations.monitoring.notification import notify

    workspace = Workspace.open()
    workspace.upgrade()
    outcome = _run_cycle(workspace, mode, window, source, expect)
    delivery = notify(workspace, outcome)
    print_json(outcome) if json else _print_cycle(outcome)
    if delivery.problem:
        kept = f"{delivery.waiting} notifications wait in the database, and the next cycle or `openmlops watch` sends them"
        raise NotificationError(delivery.problem.rstrip("."), kept)


def watch(
    every: Annotated[str, typer.Option(help="Longest time between two cycles, such as 5m.")] = "5m",
    mode: Mode = None,
    window: Window = 500,
    source: Source = SourceName.log,
    once: Annotated[bool, typer.Option("--once", help="Run one cycle and exit, as `openmlops cycle` does.")] = False,
    request: Annotated[
        str | None, typer.Option(help="Only request a cycle from the running watchers, for this reason.")
    ] = None,
    use_case: UseCaseName = None,
    json: Json = False,
) -> None:
    """Run a cycle at an interval, and whenever a window of predictions or enough labels have arrived. Press Ctrl-C to stop."""
    from openmlops.operations.monitoring import watch as watching

    if once:
        return cycle(mode, window, source, json=json)
    workspace = Workspace.open()
    if request:
        return _print_record(watching.request(workspace, request, datetime.now(UTC)), json)
    workspace.upgrade()
    log_to_standard_error(logging.WARNING)
    logging.getLogger("openmlops").setLevel(logging.INFO)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    turns = watching.watch(
        workspace,
        lambda: _run_cycle(workspace, mode, window, source),
        timedelta(seconds=seconds(every)),
        window,
        ended,
        _prune,
    )
    for outcome in turns:
        print_json(outcome) if json else _print_cycle(outcome)
    return None


def _prune(workspace: Workspace) -> None:
    from openmlops.operations.retention.prune import prune_and_log
    from openmlops.pipelines.run_records import prune_pipeline_runs

    prune_and_log(workspace, (prune_pipeline_runs,))


def decisions(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Default: MODEL_NAME.", autocompletion=completion.models)
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="Number of latest decisions to list.")] = 20,
    reset_breaker: Annotated[
        str | None,
        typer.Option(help="Record that the rejected challengers were reviewed, with the reason to resume retraining."),
    ] = None,
    use_case: UseCaseName = None,
    full: Full = False,
    json: Json = False,
) -> None:
    """List the monitoring decisions and their outcomes."""
    from openmlops.core.types import model_name

    workspace = Workspace.open()
    if reset_breaker:
        from openmlops.operations.monitoring import watch as watching

        watching.reset_breaker(workspace, reset_breaker, datetime.now(UTC))
    found = workspace.decisions.list(model_name(model) if model else workspace.model_name, last)
    if json:
        return print_json({"decisions": [record.model_dump(mode="json") for record in found]})
    if not is_short(full):
        return print_table("Decisions", ("id", "time", "version", "decision", "reasons", "outcome"), map(_row, found))
    rows = [(r.id, minute(r.at), r.version, r.action.replace("_", " "), r.outcome.kind if r.outcome else "") for r in found]
    print_table("Decisions", ("id", "time (UTC)", "version", "decision", "outcome"), rows)
    return say("Reasons: openmlops why ID, or openmlops decisions --full")


def why(
    decision: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a decision; a unique prefix is enough.", autocompletion=completion.decisions),
    ],
    json: Json = False,
) -> None:
    """Show the evidence for a decision and its outcome."""
    _print_record(Workspace.open().decisions.get(decision), json)


def _run_cycle(
    workspace: Workspace, mode: ModeName | None, window: int, source: SourceName, expect: str | None = None
) -> "CycleOutcome":
    from openmlops.settings import embed_zenml

    embed_zenml(workspace.home)
    from openmlops.pipelines.cycle import run_cycle

    chosen = mode.value if mode else workspace.settings.watch_mode
    return run_cycle(workspace, chosen, window, source.value, expected=expect)


def _print_monitoring(outcome: "MonitoringOutcome") -> None:
    title = f"{outcome.model.name}/{outcome.model.version}: {outcome.n} predictions from the {outcome.source}"
    print_table(title, ("field", "value"), _monitoring_rows(outcome))


def _monitoring_rows(outcome: "MonitoringOutcome") -> list[tuple[str, object]]:
    share, estimate, real = outcome.share_of_drifted_columns, outcome.estimate, outcome.labelled
    rows: list[tuple[str, object]] = [("drift", outcome.drift.outcome.replace("_", " "))]
    rows += [("", reason) for reason in outcome.drift.reasons]
    rows.append(("drifted columns (Evidently)", "not measurable" if share is None else percent(share)))
    if estimate and estimate.accuracy:
        trust = "" if estimate.trustworthy else ", not reliable"
        a = estimate.accuracy
        rows.append(("estimated accuracy", f"{percent(a.value, a.low, a.high)}{trust}"))
    if real:
        a = real.accuracy
        rows.append(("accuracy on labels", f"{percent(a.value, a.low, a.high)} on {real.n}"))
    rows += [("problem", problem) for problem in outcome.problems]
    rows.append((f"decision {outcome.decision.id}", outcome.decision.action.replace("_", " ")))
    return rows + [("", reason) for reason in outcome.decision.reasons] + [("file", file) for file in outcome.files]


def _print_cycle(outcome: "CycleOutcome") -> None:
    came = outcome.outcome
    rows = [*_monitoring_rows(outcome.monitoring), ("action", outcome.act.replace("_", " "))]
    rows += [("", reason) for reason in outcome.reasons]
    rows += [("outcome", came.kind), *(("", reason) for reason in came.reasons)] if came else []
    model = outcome.monitoring.model.name
    print_table(f"Cycle in mode {outcome.mode}", ("field", "value"), [*rows, ("champion", f"{model}/{outcome.champion}")])


def _print_record(record: "DecisionRecord", json: bool) -> None:
    if json:
        return print_json(record)
    rows: list[tuple[str, object]] = [("time", record.at.isoformat(sep=" ", timespec="seconds")), ("by", record.by)]
    rows += [("decision", record.action.replace("_", " ")), *(("reason", reason) for reason in record.reasons)]
    if seen := record.observation:
        rows += [("drift", reason) for reason in seen.drift.reasons]
        rows += [("moved", f"{c.name} by {c.shift:+.2f} standard deviations") for c in seen.drift.columns if c.moved][:5]
    if record.labels.uncertain or record.labels.random:
        rows.append(("images to label", ", ".join((*record.labels.uncertain, *record.labels.random))))
    if came := record.outcome:
        rows += [("outcome", came.kind), *(("", reason) for reason in came.reasons)]
    return print_table(f"Decision {record.id} about {record.model}/{record.version}", ("field", "value"), rows)


def _row(record: "DecisionRecord") -> tuple[object, ...]:
    at = record.at.isoformat(sep=" ", timespec="seconds")
    came = record.outcome.kind if record.outcome else ""
    return record.id, at, record.version, record.action, "; ".join(record.reasons), came
