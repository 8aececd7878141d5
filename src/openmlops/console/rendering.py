"""Template rendering: Jinja with autoescape, and the security headers of pages."""

from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from openmlops.console import formatting
from openmlops.console.services import console
from openmlops.web.headers import PAGE_HEADERS


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("openmlops.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(formatting.FILTERS)
    return found


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template as a response."""
    return HTMLResponse(render(request, template, **values), status, PAGE_HEADERS)


def render(request: Request, template: str, **values: Any) -> Markup:
    """A rendered template. `may_act`, `now` and `path` are available besides the given values."""
    found = console(request)
    role = found.access.role_of(request.url.path, request.headers)
    shared = {"may_act": role == "act", "has_login": found.has_login, "now": datetime.now(UTC), "path": request.url.path}
    return Markup(_templates().get_template(template).render(**shared, **values))


def error_page(status: int, detail: str) -> str:
    """The HTML of an error page, independent of the console's state."""
    values = {"status": status, "title": HTTPStatus(status).phrase, "detail": detail}
    shared = {"may_act": False, "has_login": False, "now": datetime.now(UTC), "path": ""}
    return _templates().get_template("error.html").render(**shared, **values)
