"""Acts on a page that others have overtaken, and the one against the gate."""

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console_world import BAD, CHAMPION, FIRST, NAME
from starlette.testclient import TestClient

from openmlops.adapters.registry import Registry
from openmlops.console import cycles
from openmlops.console.app import create_app
from openmlops.errors import ServiceUnavailable
from openmlops.operations.release import promotion
from openmlops.operations.workspace import Workspace

PAGE = f"/console/models/{NAME}"


@pytest.fixture
def other_tab(toys: Workspace) -> Iterator[TestClient]:
    with TestClient(create_app(toys), base_url="http://127.0.0.1:8080") as opened:
        yield opened


def shown(client: TestClient) -> dict[str, str]:
    """What the page carries for its dialogs."""
    part = client.get(f"{PAGE}/parts/standing").text
    return dict(re.findall(r'data-([a-z]+)="([^"]*)"', part))


def test_a_second_tab_that_rolls_back_what_is_rolled_back_already_is_told_so(
    client: TestClient, other_tab: TestClient, toys: Workspace
) -> None:
    before, also = shown(client), shown(other_tab)
    assert before == also
    assert (before["does"], before["to"]) == (f"Roll back {CHAMPION} -&gt; {FIRST}", str(FIRST))
    form = {"seen": before["seen"], "to": before["to"]}
    assert "Done: version 1 is in production now" in client.post(f"{PAGE}/rollback", data={**form, "reason": "complaints"}).text
    second = other_tab.post(f"{PAGE}/rollback", data={**form, "reason": "complaints"})
    assert second.status_code == 200
    assert f"version {FIRST} restored by a rollback by {getpass.getuser()}, by the console at 20" in second.text
    assert "Nothing was changed" in second.text
    assert toys.ledger.champion(NAME) == FIRST
    assert shown(client)["asks"] == "There is no champion to roll back to"


def test_a_reason_forces_nothing_and_the_act_against_the_gate_asks_for_the_name(client: TestClient, toys: Workspace) -> None:
    champion = toys.ledger.champion(NAME)
    form = {"version": str(BAD), "reason": "nightly check", "seen": shown(client)["seen"]}
    refused = client.post(f"{PAGE}/promote", data=form)
    assert "The gate did not promote" in refused.text
    assert toys.ledger.champion(NAME) == champion
    against = dict(re.findall(r'name="(version|seen|force)" value="([^"]*)"', refused.text))
    assert (against["version"], against["force"]) == (str(BAD), "1")
    for confirm in ("", "yes", NAME.upper()):
        wrong = client.post(f"{PAGE}/promote", data={**against, "reason": "it must be", "confirm": confirm})
        assert "type the model&#39;s name" in wrong.text
    without = client.post(f"{PAGE}/promote", data={**against, "reason": "", "confirm": NAME})
    assert "without a reason" in without.text
    assert toys.ledger.champion(NAME) == champion
    done = client.post(f"{PAGE}/promote", data={**against, "reason": "it must be", "confirm": NAME})
    assert f"Done: version {BAD} is in production now" in done.text
    assert toys.ledger.head(NAME).reasons[0] == "Forced manually against the verdict 'reject': it must be"


def test_an_act_against_the_gate_is_refused_once_another_version_is_champion(client: TestClient, toys: Workspace) -> None:
    seen = shown(client)["seen"]
    promotion.rollback(toys, NAME, "meanwhile")
    champion = toys.ledger.champion(NAME)
    form = {"version": str(BAD), "seen": seen, "force": "1", "confirm": NAME, "reason": "it must be"}
    assert "has advanced past sequence" in client.post(f"{PAGE}/promote", data=form).text
    assert toys.ledger.champion(NAME) == champion


def test_what_fails_after_the_row_is_a_warning_on_the_page(client: TestClient, toys: Workspace, monkeypatch) -> None:
    seen = shown(client)["seen"]
    original, calls = Registry.set_alias, []

    def fail_for_the_champion(registry: Registry, model: str, alias: str, version: int) -> None:
        calls.append(alias)
        if alias == "champion":
            raise ServiceUnavailable("MLflow does not respond", "Start it")
        original(registry, model, alias, version)

    monkeypatch.setattr(Registry, "set_alias", fail_for_the_champion)
    form = {"version": str(CHAMPION), "seen": seen, "force": "1", "confirm": NAME, "reason": "back to it"}
    done = client.post(f"{PAGE}/promote", data=form).text
    assert f"Done: version {CHAMPION} is in production now" in done
    assert "could not be set (MLflow does not respond. Start it)" in done
    assert toys.ledger.champion(NAME) == CHAMPION


def test_a_cycle_carries_what_the_page_showed(client: TestClient, toys: Workspace, monkeypatch, tmp_path: Path) -> None:
    started: list[tuple[str, ...]] = []

    def start(log: Path, mode: str, *options: str):  # type: ignore[no-untyped-def]
        started.append((mode, *options))
        raise ServiceUnavailable("not in this test", "")

    monkeypatch.setattr(cycles, "_start_process", start)
    seen = shown(client)["seen"]
    client.post(f"{PAGE}/cycle", data={"mode": "auto", "seen": seen})
    assert started == [("auto", "--expect", seen)]
    promotion.promote(toys, f"{NAME}/{FIRST}", "meanwhile", force=True)
    refused = client.post(f"{PAGE}/cycle", data={"mode": "auto", "seen": seen}).text
    assert f"version {FIRST} promoted by" in refused
    assert len(started) == 1


@pytest.mark.parametrize("seen", ["3", "champion@1", "3@x", "<b>"])
def test_what_no_page_shows_is_refused(client: TestClient, seen: str) -> None:
    assert client.post(f"{PAGE}/rollback", data={"seen": seen, "reason": "x"}).status_code == 422
