"""The stream of changes holds no more than their names, and nobody who does not read it keeps a place."""

import asyncio
from typing import Any, cast

import pytest

from openmlops.console import events
from openmlops.console.cycles import CycleRuns
from openmlops.console.events import ChangeFeed
from openmlops.operations.workspace import Workspace
from openmlops.web.conditions import Conditions

SCOPE: Any = {"type": "http", "method": "GET", "path": "/", "headers": []}


def feed(monkeypatch: pytest.MonkeyPatch) -> ChangeFeed:
    """One that sees no changes but those that a test makes."""

    async def sees_nothing(self: ChangeFeed) -> None:
        pass

    monkeypatch.setattr(ChangeFeed, "_look", sees_nothing)
    return ChangeFeed(cast(Workspace, None), cast(CycleRuns, None), Conditions())


async def never() -> Any:
    await asyncio.Event().wait()


def test_a_browser_that_does_not_read_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEND_SECONDS", 0.05)
    found = feed(monkeypatch)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            assert len(found._watchers) == 1
            await never()

    asyncio.run(asyncio.wait_for(found.watch("pets")(SCOPE, never, send), 120))
    assert found._watchers == {}


def test_changes_that_wait_are_told_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found = feed(monkeypatch)
    told: list[str] = []

    async def main() -> None:
        may_read = asyncio.Event()

        async def send(message: Any) -> None:
            text = message.get("body", b"").decode()
            if "event: hello" in text:
                await may_read.wait()
            told.extend(line for line in text.splitlines() if line.startswith("event:"))
            if "event: turn" in text:
                raise ConnectionResetError

        stream = asyncio.create_task(found.watch("pets")(SCOPE, never, send))
        while not found._watchers:
            await asyncio.sleep(0)
        (changes,) = found._watchers
        for name in ("ledger", "flow") * 1000 + ("turn",):
            changes.add(name)
        may_read.set()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(stream, 120)

    asyncio.run(main())
    assert told == ["event: hello", "event: ledger", "event: flow", "event: turn"]
