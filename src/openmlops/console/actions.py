"""Actions on the console: promote through the gate, roll back, run a cycle. Each responds with its outcome as text.

They are carried out by `operations.release.promotion` and the `openmlops` script; access is checked in `web.access`.
"""

import re
from collections.abc import Callable, Sequence

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from openmlops.console.pages import requested_model
from openmlops.console.rendering import page
from openmlops.console.services import Console, console
from openmlops.core.types import LedgerEntry, Standing
from openmlops.errors import GateError, GateRefusal, OpenMLOpsError, SettingsError
from openmlops.operations.release import promotion
from openmlops.operations.release.acts import account, standing

MAX_REASON_LENGTH = 500
"""most characters of a reason"""
_NUMBER = re.compile(r"[0-9]{1,9}")


async def promote(request: Request) -> Response:
    """Run the gate on a version. Against its verdict, a version is promoted if that was asked for with the model's name."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    version, reason, confirmed = [await _field(request, name) for name in ("version", "reason", "confirm")]
    force, seen = await _field(request, "force") == "1", await _seen(request)
    if not _NUMBER.fullmatch(version):
        raise HTTPException(422, f"'{version[:20]}' is not a version number")
    warnings: list[str] = []

    def act() -> LedgerEntry:
        if obstacle := found.preconditions.to_promote(model):
            raise GateError(obstacle.replace("VERSION", version))
        if force and confirmed != model:
            raise GateError(f"'{confirmed[:80]}' is not {model}", "To promote against the gate, type the model's name")
        given = {"force": force, "expected": seen and str(seen), "actor": actor(request), "tell": warnings.append}
        return promotion.promote(found.workspace, f"{model}/{version}", reason or None, **given)  # type: ignore[arg-type]

    return await _done(request, found, model, act, warnings, version)


async def roll_back(request: Request) -> Response:
    """Restore the champion before the one that the page showed."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    reason, seen, to = await _field(request, "reason"), await _seen(request), await _field(request, "to")
    warnings: list[str] = []

    def act() -> LedgerEntry:
        return promotion.rollback(
            found.workspace,
            model,
            reason or None,
            seen=seen,
            to=int(to) if _NUMBER.fullmatch(to) else None,
            actor=actor(request),
            tell=warnings.append,
        )

    return await _done(request, found, model, act, warnings)


async def run_cycle(request: Request) -> Response:
    """Start a cycle; its output is displayed while it runs."""
    found, model = console(request), await run_in_threadpool(requested_model, request)
    mode, seen = await _field(request, "mode"), await _seen(request)
    if mode not in ("suggest", "auto"):
        raise HTTPException(422, f"'{mode[:20]}' is not a mode; use suggest or auto")
    problem = await run_in_threadpool(found.preconditions.to_run_cycle, model)
    try:
        if not problem:
            if seen:
                await run_in_threadpool(standing, found.workspace, model, str(seen))
            await run_in_threadpool(found.cycle_runs.start, model, mode, seen)  # type: ignore[arg-type]
    except OpenMLOpsError as error:
        problem = str(error)
    said = () if problem else (f"A cycle in mode {mode} has started; its output is on this page.",)
    return _outcome_page(request, problem=problem, reasons=said)


async def _done(
    request: Request, found: Console, model: str, act: Callable[[], LedgerEntry], warnings: list[str], version: str = ""
) -> Response:
    """Act in a thread. A refusal of the gate is displayed with its reasons, which are also in the ledger, and with the act that
    promotes against it, which is decided on that row."""
    try:
        entry = await run_in_threadpool(act)
    except GateRefusal as error:
        against = {"version": version, "seen": str(Standing.of(error.entry)), "model": model}
        return _outcome_page(request, problem=str(error), against=against)
    except OpenMLOpsError as error:
        return _outcome_page(request, problem=str(error))
    finally:
        found.registry_cache.forget(model)
    return _outcome_page(request, entry=entry, reasons=entry.reasons, warnings=warnings)


def actor(request: Request) -> str:
    """Who acts: this server's account, and the session or the token."""
    name = console(request).access.name_of(request.url.path, request.headers)
    return f"{account()}, by the console{f' ({name})' if name else ''}"


def _outcome_page(
    request: Request,
    problem: str = "",
    entry: LedgerEntry | None = None,
    reasons: tuple[str, ...] = (),
    warnings: Sequence[str] = (),
    against: dict[str, str] | None = None,
) -> Response:
    response = page(
        request,
        "outcome.html",
        problem=problem,
        entry=entry,
        reasons=reasons,
        warnings=warnings,
        against=against,
    )
    response.headers["HX-Trigger"] = "acted"
    return response


async def _seen(request: Request) -> Standing | None:
    """What the page showed when the dialog was opened; None from a client that does not say it."""
    text = await _field(request, "seen")
    try:
        return Standing.parse(text) if text else None
    except SettingsError as error:
        raise HTTPException(422, str(error)) from error


async def _field(request: Request, name: str) -> str:
    value = (await request.form()).get(name, "")
    text = value.strip() if isinstance(value, str) else ""
    if len(text) > MAX_REASON_LENGTH:
        raise HTTPException(422, f"The {name} has {len(text)} characters; at most {MAX_REASON_LENGTH} are allowed")
    return text
