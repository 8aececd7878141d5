"""Login with a token, and logout."""

import math

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openmlops.console.rendering import page
from openmlops.console.services import console
from openmlops.errors import ServiceUnavailable
from openmlops.web.sessions import COOKIE, SECONDS


def form(request: Request) -> Response:
    """The login form."""
    return page(request, "login.html", problem="", next=_inside(request.query_params.get("next", "/")))


async def log_in(request: Request) -> Response:
    """Start a session for a valid token; otherwise display the form again."""
    given, logins = await request.form(), console(request).logins
    address = request.client.host if request.client else ""
    where = _inside(str(given.get("next", "/")))
    if seconds := math.ceil(logins.seconds_to_wait(address)):
        problem = f"Too many wrong tokens were given. Try again in {seconds} s."
        response: Response = page(request, "login.html", 429, problem=problem, next=where)
        response.headers["Retry-After"] = str(seconds)
        return response
    role = console(request).access.tokens.role_of(str(given.get("token", "")))
    if role is None:
        logins.was_wrong(address)
        return page(
            request, "login.html", 401, problem="This is not a valid API_TOKEN or API_READ_TOKEN of this server.", next=where
        )
    logins.was_right(address)
    response = RedirectResponse(where, 303)
    cookie, is_secure = console(request).access.sessions.begin(role), request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, SECONDS, httponly=True, samesite="strict", secure=is_secure)
    return response


def log_out(request: Request) -> Response:
    """End the session, also for whoever has a copy of its cookie."""
    try:
        console(request).access.sessions.end(request.cookies.get(COOKIE, ""))
    except OSError as error:
        problem = f"The session cannot be ended ({error.strerror})"
        raise ServiceUnavailable(problem, "Free disk space, and log out again") from error
    response = RedirectResponse("/console/login", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def _inside(path: str) -> str:
    """The page to continue with, restricted to the console (no open redirect)."""
    return path if path.startswith("/console/models/") else "/"
