"""Login with a token, and logout."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openmlops.console.rendering import page
from openmlops.console.services import console
from openmlops.web.sessions import COOKIE, SECONDS


def form(request: Request) -> Response:
    """The login form."""
    return page(request, "login.html", problem="", next=_inside(request.query_params.get("next", "/")))


async def log_in(request: Request) -> Response:
    """Start a session for a valid token; otherwise display the form again."""
    given = await request.form()
    role = console(request).access.tokens.role_of(str(given.get("token", "")))
    where = _inside(str(given.get("next", "/")))
    if role is None:
        return page(
            request, "login.html", 401, problem="This is not a valid API_TOKEN or API_READ_TOKEN of this server.", next=where
        )
    response = RedirectResponse(where, 303)
    cookie, is_secure = console(request).access.sessions.begin(role), request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, SECONDS, httponly=True, samesite="strict", secure=is_secure)
    return response


def log_out(request: Request) -> Response:
    """End the session."""
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _inside(path: str) -> str:
    """The page to continue with, restricted to the console (no open redirect)."""
    return path if path.startswith("/console/models/") else "/"
