"""Live updates: one polling task per process detects changes and notifies all connected browsers (server-sent events).

An event is the name of a change (`ledger`, `decisions`, `flow`, `turn`, `problems`), upon which the browser reloads the parts
concerned.
Not here: the content of a part (`sections`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from openmlops.adapters.activity import Mark
from openmlops.console.cycles import CycleRuns
from openmlops.core.types import Value
from openmlops.operations.workspace import Workspace
from openmlops.web.conditions import Conditions, repeat

PART = "live updates"
POLL_SECONDS = 1.0
EVERY_LABELS = 10
"""polls between two counts of the labels, which need a join"""
MAX_STREAMS = 100
"""most streams per process; each is a connection"""
PING_SECONDS = 15
SEND_SECONDS = 20.0
"""how long a browser may not read before its stream ends: it connects again by itself"""
LISTEN_SECONDS = 0.5
"""seconds after which a stream notices that the server ends"""

log = logging.getLogger(__name__)


class Snapshot(Value):
    """Change markers of a model's tables, number of unused labels, and state of the last cycle."""

    mark: Mark
    labels: int
    turn: str


class _Changes:
    """Names of changes that a browser has not been told yet, each once."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._some = asyncio.Event()

    def add(self, name: str) -> None:
        self._names[name] = None
        self._some.set()

    async def next(self) -> str:
        """The first of them; waits for one."""
        await self._some.wait()
        name = next(iter(self._names))
        del self._names[name]
        if not self._names:
            self._some.clear()
        return name


class _Stream(EventSourceResponse):
    """A stream that ends when its client does not read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


class ChangeFeed:
    """Polls for changes while browsers are connected."""

    def __init__(self, workspace: Workspace, cycle_runs: CycleRuns, conditions: Conditions) -> None:
        self._workspace, self._cycle_runs, self._conditions = workspace, cycle_runs, conditions
        self._count = 0
        self._problems = conditions.all()
        self._watchers: dict[_Changes, str] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, model: str) -> EventSourceResponse:
        """A stream of change names. Raises HTTPException beyond MAX_STREAMS."""
        if len(self._watchers) >= MAX_STREAMS:
            raise HTTPException(503, f"{MAX_STREAMS} live pages are open, which is the limit; reload this page for updates")
        ended = anyio.Event()
        return _Stream(
            self._stream(model, ended),
            ping=PING_SECONDS,
            send_timeout=SEND_SECONDS,
            shutdown_event=ended,
            shutdown_grace_period=2 * LISTEN_SECONDS,
        )

    async def _stream(self, model: str, ended: anyio.Event) -> AsyncIterator[ServerSentEvent]:
        changes = _Changes()
        self._watchers[changes] = model
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(repeat(PART, self._look, POLL_SECONDS, self._conditions))
        try:
            yield ServerSentEvent(event="hello", data=model)
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    name = await asyncio.wait_for(changes.next(), LISTEN_SECONDS)
                    yield ServerSentEvent(event=name, data=model)
        finally:
            del self._watchers[changes]
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None
                self._snapshots.clear()

    async def _look(self) -> None:
        if self._problems != (problems := self._conditions.all()):
            self._problems = problems
            for changes in self._watchers:
                changes.add("problems")
        for model in set(self._watchers.values()):
            self._notify(model, await run_in_threadpool(self._snapshot, model, self._count % EVERY_LABELS == 0))
        self._count += 1

    def _snapshot(self, model: str, counts_labels: bool) -> Snapshot:
        before, turn = self._snapshots.get(model), self._cycle_runs.last(model)
        labels = before.labels if before and not counts_labels else self._workspace.labelled_inputs.count_new(model)
        queue = f"{turn.started} {turn.ended} {turn.is_running} {turn.lines}" if turn else ""
        return Snapshot(mark=self._workspace.activity.mark(model), labels=labels, turn=queue)

    def _notify(self, model: str, seen: Snapshot) -> None:
        before = self._snapshots.get(model)
        self._snapshots[model] = seen
        for name in changed(before, seen) if before else ():
            for changes, watched in self._watchers.items():
                if watched == model:
                    changes.add(name)


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Names of the changes between two snapshots."""
    pairs = {
        "ledger": (before.mark.ledger, after.mark.ledger),
        "decisions": ((before.mark.decisions, before.labels), (after.mark.decisions, after.labels)),
        "flow": (before.mark.predictions, after.mark.predictions),
        "turn": (before.turn, after.turn),
    }
    return [name for name, (old, new) in pairs.items() if old != new]
