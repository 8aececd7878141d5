"""An act belongs to what it was decided on: what somebody else did meanwhile makes it a conflict that says so."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from test_promotion import BEST, EQUAL, GOOD, POOR, champion, copied, decide, registered

import toy_promotion as toy
from openmlops.adapters.database import connect
from openmlops.adapters.decisions import Basis, DecisionRecord, new_id
from openmlops.adapters.ledger import Ledger
from openmlops.adapters.registry import Registry
from openmlops.core.types import Standing
from openmlops.errors import LeaseLost, LedgerConflict, ServiceUnavailable, SettingsError
from openmlops.operations.monitoring import cycle
from openmlops.operations.release import acts, promotion
from openmlops.operations.workspace import Workspace
from postgres import postgres

__all__ = ["registered"]
BASED_ON_3 = "has advanced past sequence 3, on which this decision was based: row 4, version"


@pytest.fixture(scope="module")
def server() -> Iterator[object]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def three(registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three champions one after the other, the last of them row 3."""
    found = copied(registered, tmp_path_factory.mktemp("three") / "home")
    for version in (POOR, GOOD, BEST):
        decide(found, version)
    return found.home


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def workspace(request: pytest.FixtureRequest, three: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(three, tmp_path / "home")
    found = toy.workspace(tmp_path / "home")
    if request.param == "postgresql":
        running, entries = request.getfixturevalue("server"), found.ledger.history(toy.NAME)
        found.__dict__["engine"] = connect(running.url(running.create()))
        found.__dict__["ledger"] = Ledger(found.engine)
        for entry in entries:
            fields = ("kind", "version", "actor", "reasons", "dataset", "model_sha256", "verdict", "at")
            found.ledger.append(toy.NAME, entry.sequence - 1, **{name: getattr(entry, name) for name in fields})
    return found


def rolled_back(workspace: Workspace, **values):
    return promotion.rollback(workspace, toy.NAME, "because", **values)


def before_the_next_append(monkeypatch: pytest.MonkeyPatch, act) -> None:
    """Let `act` happen after everything was read, and before anything is written."""
    original = Ledger.append

    def append(*values, **named):
        monkeypatch.setattr(Ledger, "append", original)
        act()
        return original(*values, **named)

    monkeypatch.setattr(Ledger, "append", append)


def decided(workspace: Workspace, action: str = "roll_back") -> DecisionRecord:
    """A decision on the champion of now."""
    head, now = workspace.ledger.head(toy.NAME), datetime.now(UTC)
    record = DecisionRecord(
        id=new_id(), model=toy.NAME, version=head.champion, at=now, action=action, reasons=("worse",), by="cycle 1",
        basis=Basis(sequence=head.sequence),
    )  # fmt: skip
    workspace.decisions.append(record)
    return record


def test_what_was_seen_is_kept_as_text(workspace: Workspace) -> None:
    assert str(acts.standing(workspace, toy.NAME)) == f"{BEST}@3"
    assert Standing.parse(f"{BEST}@3") == acts.standing(workspace, toy.NAME, f"{BEST}@3")
    assert str(acts.standing(workspace, "nobody")) == "none@0"
    assert acts.standing(workspace, "nobody", "none@0") == Standing()
    with pytest.raises(SettingsError, match="'champion' does not name a champion and a row"):
        acts.standing(workspace, toy.NAME, "champion")


def test_a_second_rollback_on_the_same_page_is_a_conflict_that_says_who_was_first(workspace: Workspace) -> None:
    seen = acts.standing(workspace, toy.NAME)
    rolled_back(workspace, seen=seen, actor="ada")
    with pytest.raises(
        LedgerConflict, match=f"{BASED_ON_3} {GOOD} restored by a rollback by ada at 20.* UTC. Nothing was changed"
    ):
        rolled_back(workspace, seen=seen)
    assert champion(workspace) == (GOOD, GOOD)


@pytest.mark.parametrize("expected", [str(BEST), BEST, f"{BEST}@3"])
def test_a_champion_that_is_no_longer_one_is_a_conflict(workspace: Workspace, expected: str | int) -> None:
    assert acts.standing(workspace, toy.NAME, expected).champion == BEST
    rolled_back(workspace)
    with pytest.raises(LedgerConflict, match=f"version {GOOD} restored by a rollback by"):
        acts.standing(workspace, toy.NAME, expected)


def test_the_comparison_is_in_the_transaction_that_appends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before_the_next_append(monkeypatch, lambda: rolled_back(workspace))
    with pytest.raises(LedgerConflict, match=f"{BASED_ON_3} {GOOD}"):
        rolled_back(workspace)
    assert champion(workspace) == (GOOD, GOOD)


def test_a_verdict_of_meanwhile_that_changed_nothing_is_no_conflict(workspace: Workspace, monkeypatch) -> None:
    before_the_next_append(monkeypatch, lambda: decide(workspace, EQUAL))
    entry = rolled_back(workspace, seen=acts.standing(workspace, toy.NAME))
    assert (entry.sequence, entry.champion) == (5, GOOD)


def test_a_rollback_that_would_restore_another_version_than_was_shown_is_a_conflict(workspace: Workspace) -> None:
    with pytest.raises(LedgerConflict, match=f"would restore version {GOOD} now, not version {POOR}"):
        rolled_back(workspace, to=POOR)


def test_a_promotion_decided_on_another_champion_is_a_conflict(workspace: Workspace) -> None:
    seen = str(acts.standing(workspace, toy.NAME))
    rolled_back(workspace)
    with pytest.raises(LedgerConflict, match=BASED_ON_3):
        promotion.promote(workspace, f"{toy.NAME}/{BEST}", splits=toy.splits(workspace), expected=seen)
    assert len(workspace.ledger.history(toy.NAME)) == 4


# What fails after the row is written


def mlflow_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*values: object) -> None:
        raise error

    monkeypatch.setattr(Registry, "set_alias", fail)


@pytest.mark.parametrize("error", [ServiceUnavailable("MLflow is away", "Wait"), RuntimeError("boom")])
def test_mlflow_that_fails_after_the_row_is_a_warning_and_is_repaired_later(workspace: Workspace, monkeypatch, error) -> None:
    told: list[str] = []
    with monkeypatch.context() as patched:
        mlflow_fails(patched, error)
        entry = rolled_back(workspace, tell=told.append)
    assert entry.champion == GOOD
    assert len(told) == 1
    assert f"Row 4 of the ledger is written, and version {GOOD} is in production; the next command sets it." in told[0]
    assert champion(workspace) == (GOOD, BEST)
    promotion.repair(workspace, toy.NAME)
    assert champion(workspace) == (GOOD, GOOD)


def test_the_same_command_again_goes_back_no_further(workspace: Workspace) -> None:
    acts.refuse_repetition(workspace, toy.NAME)
    rolled_back(workspace)
    with pytest.raises(LedgerConflict, match=f"is a rollback already: row 4, .* name the champion you see: --expect {GOOD}"):
        acts.refuse_repetition(workspace, toy.NAME)


# Between the decision of a cycle and its act


def test_a_person_who_rolls_back_after_the_plan_is_not_overruled(workspace: Workspace) -> None:
    record = decided(workspace)
    planned = cycle.plan(workspace, "cycle 1", "auto", record.at)
    assert (planned.act, planned.seen) == ("roll_back", Standing(champion=BEST, sequence=3))
    rolled_back(workspace, actor="ada")
    with pytest.raises(LedgerConflict, match=f"{BASED_ON_3} {GOOD} restored by a rollback by ada"):
        cycle.roll_back(workspace, planned)
    assert champion(workspace) == (GOOD, GOOD)


def test_a_fix_that_a_person_promotes_after_the_plan_stays(workspace: Workspace) -> None:
    record = decided(workspace)
    planned = cycle.plan(workspace, "cycle 1", "auto", record.at)
    promotion.promote(workspace, f"{toy.NAME}/{EQUAL}", "a fix", toy.splits(workspace), force=True)
    with pytest.raises(LedgerConflict, match=f"{BASED_ON_3} {EQUAL} promoted by"):
        cycle.roll_back(workspace, planned)
    assert champion(workspace) == (EQUAL, EQUAL)


@pytest.mark.parametrize("action", ["roll_back", "retrain"])
def test_a_decision_that_was_overtaken_is_not_planned(workspace: Workspace, action: str) -> None:
    record = decided(workspace, action)
    rolled_back(workspace)
    planned = cycle.plan(workspace, "cycle 1", "auto", record.at)
    assert planned.act == "none"
    assert f"{action} was decided on version {BEST}: The ledger of {toy.NAME} {BASED_ON_3} {GOOD}" in planned.reasons[0]
    assert workspace.decisions.get(record.id).outcome is None


def test_a_decision_of_an_earlier_release_acts_only_on_its_own_version(workspace: Workspace) -> None:
    record = decided(workspace).model_copy(update={"id": "earlier", "basis": None, "by": "cycle 2"})
    workspace.decisions.append(record)
    assert cycle.plan(workspace, "cycle 2", "auto", record.at).act == "roll_back"
    rolled_back(workspace)
    assert cycle.plan(workspace, "cycle 2", "auto", record.at).act == "none"


def test_a_cycle_repeated_after_an_outage_of_mlflow_rolls_back_once(workspace: Workspace, monkeypatch) -> None:
    planned = cycle.plan(workspace, "cycle 1", "auto", decided(workspace).at)
    with monkeypatch.context() as patched:
        mlflow_fails(patched, ServiceUnavailable("MLflow is away", "Wait"))
        first = cycle.roll_back(workspace, planned)
    assert cycle.roll_back(workspace, planned) == first == workspace.ledger.head(toy.NAME)
    assert champion(workspace) == (GOOD, GOOD)


# A cycle that wakes up after another process has taken its lease


def taken_over(workspace: Workspace):
    """The lease of a cycle, over which another process took it while this one slept."""
    lease = workspace.leases.take(f"cycle/{toy.NAME}", "asleep", cycle.LEASE)
    planned = cycle.plan(workspace, "cycle 1", "auto", decided(workspace).at, lease)
    workspace.leases.seize(f"cycle/{toy.NAME}", "another", cycle.LEASE)
    return planned


def test_who_wakes_late_rolls_nothing_back(workspace: Workspace) -> None:
    planned = taken_over(workspace)
    with pytest.raises(LeaseLost, match="of asleep expired and was taken by another process"):
        cycle.roll_back(workspace, planned)
    assert champion(workspace) == (BEST, BEST)


def test_who_wakes_late_within_the_write_is_refused_by_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = workspace.leases.take(f"cycle/{toy.NAME}", "asleep", cycle.LEASE)
    planned = cycle.plan(workspace, "cycle 1", "auto", decided(workspace).at, lease)
    before_the_next_append(monkeypatch, lambda: workspace.leases.seize(f"cycle/{toy.NAME}", "another", cycle.LEASE))
    with pytest.raises(LeaseLost):
        cycle.roll_back(workspace, planned)
    assert champion(workspace) == (BEST, BEST)


def test_who_lost_its_lease_does_not_close_the_act_of_the_next(workspace: Workspace) -> None:
    planned = taken_over(workspace)
    held = type("Held", (), {"lease": planned.lease})()
    with contextlib.suppress(ZeroDivisionError), cycle.failing_started_acts(workspace, held):
        raise ZeroDivisionError
    assert workspace.decisions.get(planned.decision).outcome.kind == "started"


def test_who_wakes_late_promotes_nothing_that_it_trained(workspace: Workspace) -> None:
    planned = taken_over(workspace)
    with pytest.raises(LeaseLost):
        promotion.decide(workspace, workspace.registry.version(toy.NAME, EQUAL), toy.splits(workspace), planned.lease)
    assert len(workspace.ledger.history(toy.NAME)) == 3


def test_who_wakes_late_marks_no_label_as_used(workspace: Workspace) -> None:
    with pytest.raises(LeaseLost):
        workspace.labelled_inputs.mark_used(("p1",), "d" * 64, datetime.now(UTC), taken_over(workspace).lease)
