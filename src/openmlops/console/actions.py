"""Actions on the console: promote through the gate, roll back, run a cycle. Each responds with its outcome as text.

They are carried out by `operations.release.promotion` and the `openmlops` script; access is checked in `web.access`.
"""

import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from openmlops.console.pages import requested_model
from openmlops.console.rendering import page
from openmlops.console.services import Console, console
from openmlops.core.types import LedgerEntry
from openmlops.errors import GateError, OpenMLOpsError
from openmlops.operations.release import promotion

MAX_REASON_LENGTH = 500
"""most characters of a reason"""
_NUMBER = re.compile(r"[0-9]{1,9}")


async def promote(request: Request) -> Response:
    """Run the gate on a version; with a reason it is promoted whatever the verdict."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    version, reason = await _field(request, "version"), await _field(request, "reason")
    if not _NUMBER.fullmatch(version):
        raise HTTPException(422, f"'{version[:20]}' is not a version number")

    def act() -> LedgerEntry:
        if obstacle := found.preconditions.to_promote(model):
            raise GateError(obstacle.replace("VERSION", version))
        return promotion.promote(found.workspace, f"{model}/{version}", reason or None)

    return await _done(request, found, model, act)


async def roll_back(request: Request) -> Response:
    """Restore the previous champion."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    reason = await _field(request, "reason")
    return await _done(request, found, model, lambda: promotion.rollback(found.workspace, model, reason or None))


async def run_cycle(request: Request) -> Response:
    """Start a cycle; its output is displayed while it runs."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    mode = await _field(request, "mode")
    if mode not in ("suggest", "auto"):
        raise HTTPException(422, f"'{mode[:20]}' is not a mode; use suggest or auto")
    problem = await run_in_threadpool(found.preconditions.to_run_cycle, model)
    try:
        if not problem:
            await run_in_threadpool(found.cycle_runs.start, model, mode)  # type: ignore[arg-type]
    except OpenMLOpsError as error:
        problem = str(error)
    said = () if problem else (f"A cycle in mode {mode} has started; its output is on this page.",)
    return _outcome_page(request, problem, None, said)


async def _done(request: Request, found: Console, model: str, act: Callable[[], LedgerEntry]) -> Response:
    """Act in a thread. A refusal of the gate is displayed with its reasons, which are also in the ledger."""
    try:
        entry = await run_in_threadpool(act)
    except OpenMLOpsError as error:
        return _outcome_page(request, str(error), None, ())
    finally:
        found.registry_cache.forget(model)
    return _outcome_page(request, "", entry, entry.reasons)


def _outcome_page(request: Request, problem: str, entry: LedgerEntry | None, reasons: tuple[str, ...]) -> Response:
    response = page(request, "outcome.html", problem=problem, entry=entry, reasons=reasons)
    response.headers["HX-Trigger"] = "acted"
    return response


async def _field(request: Request, name: str) -> str:
    value = (await request.form()).get(name, "")
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > MAX_REASON_LENGTH:
        raise HTTPException(422, f"The {name} has {len(text)} characters; at most {MAX_REASON_LENGTH} are allowed")
    return text
