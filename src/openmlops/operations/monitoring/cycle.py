"""One cycle: executes a decision at most once and stores its outcome with the decision.

Here: what the mode allows, the parts of an act, and its outcome, also after a killed process. Not here: deciding (`monitor`,
`core.monitoring.policy`), training (`pipelines`), the gate (`release.promotion`), and scheduling cycles (`watch`).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from openmlops.adapters.decisions import DecisionRecord, Outcome
from openmlops.adapters.fences import Lease
from openmlops.adapters.leases import Held
from openmlops.adapters.processes import Process
from openmlops.core.types import LedgerEntry, ModelRef, Standing, Value
from openmlops.errors import DataError, LeaseLost, LedgerConflict, OpenMLOpsError, ServiceUnavailable
from openmlops.operations.data import from_production
from openmlops.operations.data.from_production import NewData
from openmlops.operations.monitoring.history import records_of
from openmlops.operations.monitoring.monitor import MonitoringOutcome
from openmlops.operations.monitoring.run_folders import OUTCOME_FILE
from openmlops.operations.monitoring.windows import load_latest_model
from openmlops.operations.release import promotion
from openmlops.operations.release.acts import mirror, require_unchanged
from openmlops.operations.release.model_card import Description
from openmlops.operations.workspace import Workspace

Mode = Literal["manual", "suggest", "auto"]
Act = Literal["retrain", "roll_back", "none"]

CYCLE = "cycle "
"""how the name of a cycle begins, by which its decision is known"""
LEASE = timedelta(seconds=60)
"""time after which the lease of a dead process expires"""


class Plan(Value):
    """What this cycle does about a decision, and why.

    `seen` is what the decision was based on: if another version has become champion since, the act is refused. `lease` is the
    cycle's own: what it writes after another process has acquired it is refused too.
    """

    decision: str
    act: Act
    reasons: tuple[str, ...]
    champion: ModelRef
    seen: Standing
    lease: Lease | None = None


class CycleOutcome(Value):
    """One cycle: the object that `openmlops cycle --json` prints. `outcome` is None if nothing was done."""

    monitoring: MonitoringOutcome
    mode: Mode
    act: Act
    reasons: tuple[str, ...]
    outcome: Outcome | None
    champion: int | None


@contextmanager
def cycle_lease(workspace: Workspace) -> Iterator[Held]:
    """Hold the exclusive lease to act on the model. Raises LeaseTaken if another process holds the lease.

    Acts that another process left in state `started` are first recorded as failed: it has ended, or its lease is over and it
    can write no more.
    """
    name = workspace.model_name
    with workspace.leases.holding(f"cycle/{name}", Process.this().model_dump_json(), LEASE) as held:
        fail_started_acts(workspace, name, "the process ended before the action was complete", held.lease)
        yield held


def plan(workspace: Workspace, by: str, mode: Mode, now: datetime, lease: Lease | None = None) -> Plan:
    """Plan what to do about the latest decision requested by `by`. An act that is due is recorded as started.

    An act on a version that is no longer champion is not planned.
    """
    record = next(r for r in reversed(records_of(workspace, workspace.model_name)) if r.by == by)
    champion = load_latest_model(workspace)
    act: Act = record.action if record.action in ("retrain", "roll_back") else "none"  # type: ignore[assignment]
    seen = _seen(workspace, record)
    if act == "none":
        reasons: tuple[str, ...] = (f"{record.action} requires no action from the cycle",)
    elif mode != "auto":
        reasons, act = (f"{act} is suggested; mode {mode} takes no action",), "none"
    elif overtaken := _overtaken(workspace, record.model, seen):
        reasons, act = (f"{act} was decided on version {record.version}: {overtaken}",), "none"
    else:
        reasons = (f"{act} in mode auto",)
        workspace.decisions.outcome(record.id, Outcome(at=now, kind="started"), lease)
    return Plan(decision=record.id, act=act, reasons=reasons, champion=champion, seen=seen, lease=lease)


def _seen(workspace: Workspace, record: DecisionRecord) -> Standing:
    """What a decision was based on: the version that it is about, and the ledger's row that it noted; one of an earlier release
    noted none, and is taken for one on the newest row."""
    if record.basis:
        return Standing(champion=record.version, sequence=record.basis.sequence)
    return Standing.of(workspace.ledger.head(record.model)).model_copy(update={"champion": record.version})


def _overtaken(workspace: Workspace, model: str, seen: Standing) -> str:
    """What happened since a decision that makes it void; empty if nothing."""
    try:
        require_unchanged(workspace, model, seen)
    except LedgerConflict as error:
        return error.problem
    return ""


def add_new_data(workspace: Workspace, planned: Plan) -> NewData:
    """The data version to retrain on. Without new data, records the outcome `no_data` and raises DataError."""
    try:
        return from_production.add_labelled(workspace, planned.champion, planned.lease)
    except DataError as error:
        outcome = Outcome(at=datetime.now(UTC), kind="no_data", reasons=(str(error),))
        workspace.decisions.outcome(planned.decision, outcome, planned.lease)
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
    if done:
        entry = done[-1]
        mirror(workspace, entry)
    else:
        entry = promotion.rollback(workspace, planned.champion.name, reason, seen=planned.seen, fence=planned.lease)
    outcome = Outcome(at=datetime.now(UTC), kind="rolled_back", version=entry.champion, reasons=entry.reasons)
    workspace.decisions.outcome(planned.decision, outcome, planned.lease)
    return entry


def conclude(workspace: Workspace, planned: Plan, new: NewData) -> Outcome:
    """After a retraining: store the gate's verdict as the decision's outcome, and mark the labels as used."""
    entries = [entry for entry in workspace.ledger.history(planned.champion.name) if entry.verdict]
    own = promotion.verdict_under(workspace, planned.lease) if planned.lease else 0
    since = (e for e in reversed(entries) if e.sequence > planned.seen.sequence and e.dataset == new.dataset.fingerprint)
    judged = next(e for e in entries if e.sequence == own) if own else next(since)
    assert judged.verdict is not None
    now = datetime.now(UTC)
    outcome = Outcome(at=now, kind=judged.verdict.outcome, version=judged.version, reasons=judged.reasons)
    from_production.mark_used(workspace, new, now, planned.lease)
    workspace.decisions.outcome(planned.decision, outcome, planned.lease)
    return outcome


def fail_started_acts(workspace: Workspace, model: str, reason: str, lease: Lease | None = None) -> None:
    """Record the outcome `failed` for every act that was started and has not ended. Raises LeaseLost if another process has
    acquired `lease`: the acts are its own then."""
    for record in records_of(workspace, model):
        if record.outcome and record.outcome.kind == "started":
            outcome = Outcome(at=record.outcome.at, kind="failed", reasons=(reason,))
            workspace.decisions.outcome(record.id, outcome, lease)


def outcome_of(workspace: Workspace, planned: Plan, mode: Mode) -> CycleOutcome:
    """The outcome of a cycle, read back from the folder of its monitoring run, decisions and ledger."""
    record = workspace.decisions.get(planned.decision)
    found = workspace.monitoring / record.id / OUTCOME_FILE
    return CycleOutcome(
        monitoring=MonitoringOutcome.model_validate_json(found.read_bytes()),
        mode=mode,
        act=planned.act,
        reasons=planned.reasons,
        outcome=record.outcome,
        champion=workspace.ledger.champion(record.model),
    )


@contextmanager
def failing_started_acts(workspace: Workspace, held: Held) -> Iterator[None]:
    """Record the act that this cycle started as failed, with the reason, if the block raises and the lease is still held."""
    try:
        yield
    except BaseException as error:
        cause = str(error) if isinstance(error, OpenMLOpsError) else f"{type(error).__name__}: {error}"
        with suppress(ServiceUnavailable, LeaseLost):  # the next cycle records it
            fail_started_acts(workspace, workspace.model_name, cause, held.lease)
        raise
