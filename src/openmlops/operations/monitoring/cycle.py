"""One turn of the loop: a decision becomes an act, at most once, and what came of it is kept with the decision.

What is here: what the mode allows, the act's parts, and its end, also after a kill. What is not: deciding (`monitoring`,
`core.policy`), training (`pipelines`), the gate (`promotion`), and waiting for the next turn (`watch`).
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from openmlops.adapters.decisions import Outcome
from openmlops.core.types import LedgerEntry, ModelRef, Value
from openmlops.errors import DataError, OpenMLOpsError, ServiceUnavailable
from openmlops.operations.data import from_production
from openmlops.operations.data.from_production import NewData
from openmlops.operations.monitoring.history import records_of
from openmlops.operations.monitoring.monitor import OUTCOME_FILE, MonitoringOutcome
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import promotion
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace

Mode = Literal["manual", "suggest", "auto"]
Act = Literal["retrain", "roll_back", "none"]

LEASE = timedelta(seconds=60)
"""how long a dead holder keeps the others waiting"""


class Plan(Value):
    """What this turn does about a decision, and why no more than that."""

    decision: str
    act: Act
    reasons: tuple[str, ...]
    champion: ModelRef
    sequence: int
    """of the ledger, before the act"""


class CycleOutcome(Value):
    """One turn: the object that `openmlops cycle --json` prints. `outcome` is None when nothing was done."""

    monitoring: MonitoringOutcome
    mode: Mode
    act: Act
    reasons: tuple[str, ...]
    outcome: Outcome | None
    champion: int | None


@contextmanager
def cycle_lease(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """The one right to act on the model. Yields a check that raises LeaseLost. Raises LeaseTaken if another process has it.

    Acts that a killed process left begun are closed as failed first.
    """
    name = workspace.model_name
    with workspace.leases.holding(f"cycle/{name}", f"{socket.gethostname()} process {os.getpid()}", LEASE) as check:
        fail_started_acts(workspace, name, "the process ended before it was done")
        yield check


def plan(workspace: Workspace, by: str, mode: Mode, now: datetime) -> Plan:
    """What to do about the latest decision that was asked for by `by`. An act that is due is noted as started."""
    record = next(r for r in reversed(records_of(workspace, workspace.model_name)) if r.by == by)
    act: Act = record.action if record.action in ("retrain", "roll_back") else "none"  # type: ignore[assignment]
    if act == "none":
        reasons: tuple[str, ...] = (f"{record.action} asks for no act of ours",)
    elif mode != "auto":
        reasons, act = (f"{act} is suggested; in the mode {mode} nothing is done",), "none"
    else:
        reasons = (f"{act} in the mode auto",)
        workspace.decisions.outcome(record.id, Outcome(at=now, kind="started"))
    head = workspace.ledger.head(record.model)
    champion = load_latest_model(workspace)
    return Plan(decision=record.id, act=act, reasons=reasons, champion=champion, sequence=head.sequence if head else 0)


def add_new_data(workspace: Workspace, planned: Plan) -> NewData:
    """The data version to retrain on. Without any, the decision's outcome says so, and DataError is raised."""
    try:
        return from_production.add_labelled(workspace, planned.champion)
    except DataError as error:
        workspace.decisions.outcome(planned.decision, Outcome(at=datetime.now(UTC), kind="no_data", reasons=(str(error),)))
        raise


def training_config(workspace: Workspace) -> dict[str, Any]:
    """How the champion of now was trained: what a retraining does again, on newer data."""
    folder = workspace.registry.fetch(load_latest_model(workspace))
    return Description.read(folder / "model.json").config


def roll_back(workspace: Workspace, planned: Plan) -> LedgerEntry:
    """Put the champion before back, with the decision as the reason; once, also if this is repeated after an outage."""
    reason = f"decision {planned.decision}"
    entries = workspace.ledger.history(planned.champion.name)
    done = [e for e in entries if e.kind == "rollback" and any(why.endswith(f": {reason}") for why in e.reasons)]
    entry = done[-1] if done else promotion.rollback(workspace, planned.champion.name, reason)
    promotion.repair(workspace, planned.champion.name)
    outcome = Outcome(at=datetime.now(UTC), kind="rolled_back", version=entry.champion, reasons=entry.reasons)
    workspace.decisions.outcome(planned.decision, outcome)
    return entry


def conclude(workspace: Workspace, planned: Plan, new: NewData) -> Outcome:
    """After a retraining: keep the gate's verdict with the decision, and count the labels as used."""
    entries = [e for e in workspace.ledger.history(planned.champion.name) if e.sequence > planned.sequence and e.verdict]
    judged = next(entry for entry in reversed(entries) if entry.dataset == new.dataset.fingerprint)
    assert judged.verdict is not None
    now = datetime.now(UTC)
    outcome = Outcome(at=now, kind=judged.verdict.outcome, version=judged.version, reasons=judged.reasons)
    from_production.mark_used(workspace, new, now)
    workspace.decisions.outcome(planned.decision, outcome)
    return outcome


def fail_started_acts(workspace: Workspace, model: str, reason: str) -> None:
    """Close as failed every act that was started and did not end."""
    for record in records_of(workspace, model):
        if record.outcome and record.outcome.kind == "started":
            workspace.decisions.outcome(record.id, Outcome(at=record.outcome.at, kind="failed", reasons=(reason,)))


def outcome_of(workspace: Workspace, planned: Plan, mode: Mode) -> CycleOutcome:
    """Gather what a turn came to."""
    record = workspace.decisions.get(planned.decision)
    return CycleOutcome(
        monitoring=MonitoringOutcome.model_validate_json((workspace.monitoring / OUTCOME_FILE).read_bytes()),
        mode=mode,
        act=planned.act,
        reasons=planned.reasons,
        outcome=record.outcome,
        champion=workspace.ledger.champion(record.model),
    )


@contextmanager
def failing_started_acts(workspace: Workspace) -> Iterator[None]:
    """Close the act that this turn began as failed, with the reason, if the block does not end well."""
    try:
        yield
    except BaseException as error:
        cause = str(error) if isinstance(error, OpenMLOpsError) else f"{type(error).__name__}: {error}"
        with suppress(ServiceUnavailable):  # the next turn closes it
            fail_started_acts(workspace, workspace.model_name, cause)
        raise
