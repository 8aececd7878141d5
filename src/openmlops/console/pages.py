"""The pages: the list of models, and the page of one."""

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from openmlops.console.models_overview import rows
from openmlops.console.rendering import page, render
from openmlops.console.sections import LAYOUT, PARTS, whole
from openmlops.console.services import console
from openmlops.core.types import model_name
from openmlops.errors import ModelNotFound
from openmlops.web.headers import PAGE_HEADERS


def index(request: Request) -> Response:
    """The overview of all models, by trouble; redirects to the model's page if there is only one."""
    names = models(request)
    if len(names) == 1:
        return RedirectResponse(f"/console/models/{names[0]}", 303)
    return page(request, "index.html", rows=rows(console(request), names))


def models(request: Request) -> tuple[str, ...]:
    """Names of the models in the ledger, and of the one in the console's settings."""
    workspace = console(request).workspace
    return tuple(sorted({workspace.model_name, *workspace.ledger.models()}))


def requested_model(request: Request) -> str:
    """The model in the URL. Raises ModelNotFound."""
    name = request.path_params["model"]
    if name not in models(request):
        raise ModelNotFound(f"There is no model '{name[:80]}'", "See the list of models")
    return model_name(name)


def model(request: Request) -> Response:
    """The page of one model."""
    name, found = requested_model(request), console(request)
    rendered = {part: _rendered(request, name, part) for part in PARTS}
    return page(request, "model.html", model=name, rendered=rendered, layout=LAYOUT, **whole(found, name))


def part(request: Request) -> Response:
    """One part of the page, rendered again. Raises HTTPException for an unknown part."""
    name, which = requested_model(request), request.path_params["part"]
    if which not in PARTS:
        raise HTTPException(404, f"The page has no part '{which[:40]}'")
    return HTMLResponse(_rendered(request, name, which), headers=PAGE_HEADERS)


def _rendered(request: Request, model: str, which: str) -> Markup:
    return render(request, f"parts/{which}.html", model=model, **PARTS[which](console(request), model))


async def events(request: Request) -> Response:
    """The event stream of changes."""
    return console(request).changes.watch(await run_in_threadpool(requested_model, request))
