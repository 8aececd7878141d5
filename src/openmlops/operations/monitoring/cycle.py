"""One cycle: executes a decision at most once and stores its outcome with the decision.

Here: what the mode allows, the parts of an act, and its outcome, also after a killed process. Not here: deciding (`monitor`,
`core.monitoring.policy`), training (`pipelines`), the gate (`release.promotion`), and scheduling cycles (`watch`).
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
"""time after which the lease of a dead process expires"""


class Plan(Value):
    """What this cycle does about a decision, and why."""

    decision: str
    act: Act
    reasons: tuple[str, ...]
    champion: ModelRef
    sequence: int
    """sequence number of the ledger before the act"""


class CycleOutcome(Value):
    """One cycle: the object that `openmlops cycle --json` prints. `outcome` is None if nothing was done."""

    monitoring: MonitoringOutcome
    mode: Mode
    act: Act
    reasons: tuple[str, ...]
    outcome: Outcome | None
    champion: int | None


@contextmanager
def cycle_lease(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """Hold the exclusive lease to act on the model. Yields a check that raises LeaseLost. Raises LeaseTaken if another process
    holds the lease.

    Acts that a killed process left in state `started` are first recorded as failed.
    """
    name = workspace.model_name
    with workspace.leases.holding(f"cycle/{name}", f"{socket.gethostname()} process {os.getpid()}", LEASE) as check:
        fail_started_acts(workspace, name, "the process ended before the action was complete")
        yield check


def plan(workspace: Workspace, by: str, mode: Mode, now: datetime) -> Plan:
    """Plan what to do about the latest decision requested by `by`. An act that is due is recorded as started."""
    record = next(r for r in reversed(records_of(workspace, workspace.model_name)) if r.by == by)
    act: Act = record.action if record.action in ("retrain", "roll_back") else "none"  # type: ignore[assignment]
    if act == "none":
        reasons: tuple[str, ...] = (f"{record.action} requires no action from the cycle",)
    elif mode != "auto":
        reasons, act = (f"{act} is suggested; mode {mode} takes no action",), "none"
    else:
        reasons = (f"{act} in mode auto",)
        workspace.decisions.outcome(record.id, Outcome(at=now, kind="started"))
    head = workspace.ledger.head(record.model)
    champion = load_latest_model(workspace)
    return Plan(decision=record.id, act=act, reasons=reasons, champion=champion, sequence=head.sequence if head else 0)


def add_new_data(workspace: Workspace, planned: Plan) -> NewData:
    """The data version to retrain on. Without new data, records the outcome `no_data` and raises DataError."""
    try:
        return from_production.add_labelled(workspace, planned.champion)
    except DataError as error:
        workspace.decisions.outcome(planned.decision, Outcome(at=datetime.now(UTC), kind="no_data", reasons=(str(error),)))
        raise


def training_config(workspace: Workspace) -> dict[str, Any]:
    """The training configuration of the current champion, which a retraining reuses on newer data."""
    folder = workspace.registry.fetch(load_latest_model(workspace))
    return Description.read(folder / "model.json").config


def roll_back(workspace: Workspace, planned: Plan) -> LedgerEntry:
    """Restore the previous champion, with the decision as the reason. Idempotent, so that it can be retried after an outage."""
    reason = f"decision {planned.decision}"
    entries = workspace.ledger.history(planned.champion.name)
    done = [e for e in entries if e.kind == "rollback" and any(why.endswith(f": {reason}") for why in e.reasons)]
    entry = done[-1] if done else promotion.rollback(workspace, planned.champion.name, reason)
    promotion.repair(workspace, planned.champion.name)
    outcome = Outcome(at=datetime.now(UTC), kind="rolled_back", version=entry.champion, reasons=entry.reasons)
    workspace.decisions.outcome(planned.decision, outcome)
    return entry


def conclude(workspace: Workspace, planned: Plan, new: NewData) -> Outcome:
    """After a retraining: store the gate's verdict as the decision's outcome, and mark the labels as used."""
    entries = [e for e in workspace.ledger.history(planned.champion.name) if e.sequence > planned.sequence and e.verdict]
    judged = next(entry for entry in reversed(entries) if entry.dataset == new.dataset.fingerprint)
    assert judged.verdict is not None
    now = datetime.now(UTC)
    outcome = Outcome(at=now, kind=judged.verdict.outcome, version=judged.version, reasons=judged.reasons)
    from_production.mark_used(workspace, new, now)
    workspace.decisions.outcome(planned.decision, outcome)
    return outcome


def fail_started_acts(workspace: Workspace, model: str, reason: str) -> None:
    """Record the outcome `failed` for every act that was started and has not ended."""
    for record in records_of(workspace, model):
        if record.outcome and record.outcome.kind == "started":
            workspace.decisions.outcome(record.id, Outcome(at=record.outcome.at, kind="failed", reasons=(reason,)))


def outcome_of(workspace: Workspace, planned: Plan, mode: Mode) -> CycleOutcome:
    """The outcome of a cycle, read back from the monitoring folder, decisions and ledger."""
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
    """Record the act that this cycle started as failed, with the reason, if the block raises."""
    try:
        yield
    except BaseException as error:
        cause = str(error) if isinstance(error, OpenMLOpsError) else f"{type(error).__name__}: {error}"
        with suppress(ServiceUnavailable):  # the next cycle records it
            fail_started_acts(workspace, workspace.model_name, cause)
        raise
