"""The commands of watching that need no pipeline: lists, reasons, requests, and errors of one line."""

import json

import pytest
from typer.testing import CliRunner

from openmlops.adapters.decisions import DecisionRecord, Outcome
from openmlops.cli import app
from openmlops.operations.workspace import Workspace
from small_loop import NOON


@pytest.fixture
def invoke(loop: Workspace, monkeypatch: pytest.MonkeyPatch):
    """Run a command in the workspace; what it printed."""
    monkeypatch.setattr(Workspace, "open", lambda use_case=None: loop)

    def run(*words: str) -> str:
        found = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.output

    return run


@pytest.fixture
def kept(loop: Workspace) -> DecisionRecord:
    record = DecisionRecord(
        id="abc123", model=loop.model_name, version=1, at=NOON, action="retrain", reasons=("2 windows", "500 labels"), by="test"
    )
    loop.decisions.append(record)
    loop.decisions.outcome("abc123", Outcome(at=NOON, kind="promote", version=2, reasons=("better",)))
    return loop.decisions.get("abc123")


def test_decisions_are_listed_with_their_reasons_and_what_came_of_them(invoke, kept: DecisionRecord):
    assert invoke("decisions").splitlines()[1].split("\t")[3:] == ["retrain", "2 windows; 500 labels", "promote"]
    assert json.loads(invoke("decisions", "--json")) == {"decisions": [kept.model_dump(mode="json")]}


def test_why_tells_everything_by_the_beginning_of_an_id(invoke, kept: DecisionRecord):
    assert json.loads(invoke("why", "abc", "--json")) == kept.model_dump(mode="json")
    told = invoke("why", "abc")
    assert "reason\t500 labels" in told
    assert "outcome\tpromote" in told


def test_a_request_and_a_reset_are_records_with_their_reason(invoke, loop: Workspace):
    assert json.loads(invoke("watch", "--request", "complaints", "--json"))["action"] == "request"
    invoke("decisions", "--reset-breaker", "looked at the last three")
    assert [(r.action, r.reasons) for r in loop.decisions.list(loop.model_name)] == [
        ("request", ("complaints",)),
        ("reset", ("looked at the last three",)),
    ]


@pytest.mark.parametrize("command", ["monitor", "cycle", "watch", "decisions", "why"])
def test_every_command_has_an_example_and_json(command: str):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert "Example: " in shown.output
    assert "--json" in shown.output
