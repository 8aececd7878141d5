"""The console as an ASGI application, and its routes for the prediction server, which serves the same pages."""

import inspect
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from openmlops.console import actions, errors, examples, labelling, login, pages
from openmlops.console.rendering import error_page
from openmlops.console.reports import report
from openmlops.console.services import make, make_access
from openmlops.console.static_files import static
from openmlops.errors import ModelNotFound, OpenMLOpsError, ServiceUnavailable
from openmlops.operations.workspace import Workspace
from openmlops.web.conditions import Conditions
from openmlops.web.headers import PAGE_HEADERS
from openmlops.web.middleware import AccessMiddleware

Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
MODEL = "/console/models/{model}"


def create_app(workspace: Workspace, host: str = "127.0.0.1") -> Starlette:
    """The console of a workspace on an address. Raises SettingsError for ineffective tokens."""
    access = make_access(workspace)
    access.tokens.require_for(host)
    app = Starlette(routes=routes(), middleware=[Middleware(AccessMiddleware, access=access, error_page=error_page)])
    app.state.console = make(workspace, access, Conditions())
    return app


def routes() -> list[Route]:
    """All routes of the console; they use `app.state.console`."""
    return [
        Route("/", with_error_pages(pages.index)),
        Route(MODEL, with_error_pages(pages.model)),
        Route(f"{MODEL}/parts/{{part}}", with_error_pages(pages.part)),
        Route(f"{MODEL}/events", with_error_pages(pages.events)),
        Route(f"{MODEL}/decisions/{{decision}}/report", with_error_pages(report)),
        Route(f"{MODEL}/promote", with_error_pages(actions.promote), methods=["POST"]),
        Route(f"{MODEL}/rollback", with_error_pages(actions.roll_back), methods=["POST"]),
        Route(f"{MODEL}/cycle", with_error_pages(actions.run_cycle), methods=["POST"]),
        Route("/console/login", with_error_pages(login.form)),
        Route("/console/login", with_error_pages(login.log_in), methods=["POST"]),
        Route("/console/logout", with_error_pages(login.log_out), methods=["POST"]),
        Route("/console/static/{path:path}", static),
        *(_with_error_pages(route) for route in (*labelling.ROUTES, *examples.ROUTES, *errors.ROUTES)),
    ]


def _with_error_pages(route: Route) -> Route:
    return Route(route.path, with_error_pages(route.endpoint), methods=list(route.methods or ()))


def with_error_pages(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint so that its errors become pages with problem and remedy; a plain function runs in a thread."""

    async def response(request: Request) -> Response:
        try:
            if inspect.iscoroutinefunction(endpoint):
                return await endpoint(request)
            return await run_in_threadpool(endpoint, request)  # type: ignore[arg-type]
        except OpenMLOpsError as error:
            status = _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            return HTMLResponse(error_page(status, str(error)), status, PAGE_HEADERS)
        except HTTPException as error:
            return HTMLResponse(error_page(error.status_code, str(error.detail)), error.status_code, PAGE_HEADERS)

    return response


_STATUS = {ModelNotFound: HTTPStatus.NOT_FOUND, ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE}
