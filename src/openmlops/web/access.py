"""Access control over HTTP for prediction server and console.

Checks tokens, sessions, hosts and origins, as functions of a request's method, path and headers. Not here: concurrency and body
size (`serving.guard`), and the rendering of refusals (`serving.problems`, `middleware`).
"""

import hmac
import ipaddress
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers

from openmlops.core.types import Value
from openmlops.errors import SettingsError
from openmlops.web.sessions import COOKIE, Sessions

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEALTH_PATHS = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
"""open without a token, for the probes of orchestrators"""
LOGIN, STATIC = "/console/login", "/console/static/"
CLOSE_CONNECTION = {"Connection": "close"}

Role = Literal["act", "read"]
Refusal = tuple[HTTPStatus, str, dict[str, str]]


class Tokens(Value):
    """API_TOKEN for full access, and API_READ_TOKEN for read-only access. Both may be empty."""

    acting: SecretStr = SecretStr("")
    reading: SecretStr = SecretStr("")

    def require_for(self, host: str) -> None:
        """Raises SettingsError when the address can be reached from outside and there is no token, or when the token that may
        only read would allow more than that."""
        token, reading = self.acting.get_secret_value(), self.reading.get_secret_value()
        if not token and not is_loopback(host):
            problem = f"The server would listen on {host}, which other machines can reach, without a token"
            raise SettingsError(problem, "Set API_TOKEN, or listen on 127.0.0.1")
        if reading and not token:
            problem = "API_READ_TOKEN is set without API_TOKEN: predictions would be open to clients that may not read"
            raise SettingsError(problem, "Also set API_TOKEN, to a different value")
        if reading and reading == token:
            raise SettingsError("API_READ_TOKEN and API_TOKEN are the same (values hidden)", "Set different values")

    def role_of(self, given: str) -> Role | None:
        """The role of a token; None if it is invalid."""
        for role, token in (("act", self.acting), ("read", self.reading)):
            ours = token.get_secret_value().encode()
            if ours and hmac.compare_digest(given.encode(), ours):
                return role  # type: ignore[return-value]
        return None


class AccessPolicy:
    """Predictions and changes need API_TOKEN. Reading is open unless API_READ_TOKEN is set; the console's pages, which display
    received images, need one of the tokens if any is set."""

    def __init__(self, tokens: Tokens, sessions: Sessions, origins: Sequence[str] = ()) -> None:
        self.tokens, self.sessions, self._origins = tokens, sessions, frozenset(origins)
        self._is_open = not tokens.acting.get_secret_value()
        self._is_free_to_read = not tokens.reading.get_secret_value()

    def role_of(self, path: str, headers: Headers) -> Role | None:
        """The role of a request, by the token in its header or, on the console's pages, by its session."""
        if self._is_open:
            return "act"
        if bearer := _bearer(headers):
            return self.tokens.role_of(bearer)
        return self.sessions.role_of(_cookie(headers)) if is_page(path) else None

    def name_of(self, path: str, headers: Headers) -> str:
        """Which token or session sends a request, as the ledger records it; empty where there is no token."""
        if self._is_open:
            return ""
        if _bearer(headers):
            return "API_TOKEN" if self.role_of(path, headers) == "act" else "API_READ_TOKEN"
        return f"session {self.sessions.name_of(_cookie(headers))}"

    def read_refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Why a read request is refused (either token is sufficient); None if it is allowed."""
        if path in HEALTH_PATHS:
            return None
        if found := self._foreign_host_refusal(headers):
            return found
        if is_page(path):
            return self._page_refusal(path, headers)
        if self._is_free_to_read or self.role_of(path, headers):
            return None
        return _unauthorized("API_READ_TOKEN or API_TOKEN")

    def write_refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Why a request that predicts or changes something is refused; None if it is allowed."""
        found = self._cross_site_refusal(headers) if is_page(path) else self._foreign_page_refusal(headers)
        if found or (found := self._foreign_host_refusal(headers)):
            return found
        if path == LOGIN:
            return None
        role = self.role_of(path, headers)
        if role == "read":
            return HTTPStatus.FORBIDDEN, "API_READ_TOKEN is read-only; this request requires API_TOKEN", CLOSE_CONNECTION
        if role is None:
            return _unauthorized("API_TOKEN")
        if self._is_open and not _is_same_machine(headers.get("origin", "")):
            detail = f"A page of {headers['origin']} may not use this server, which runs without authentication"
            return HTTPStatus.FORBIDDEN, detail, CLOSE_CONNECTION
        return None

    def _page_refusal(self, path: str, headers: Headers) -> Refusal | None:
        if path == LOGIN or path.startswith(STATIC):
            return None
        return None if self.role_of(path, headers) else _unauthorized("API_READ_TOKEN or API_TOKEN")

    def _cross_site_refusal(self, headers: Headers) -> Refusal | None:
        """Refuses changes requested by pages of other sites (CSRF), regardless of cookies."""
        origin, host = headers.get("origin", ""), headers.get("host", "")
        if origin and urlsplit(origin).netloc != host:
            return HTTPStatus.FORBIDDEN, f"A page of {origin[:200]} may not use the console of {host[:200]}", CLOSE_CONNECTION
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return HTTPStatus.FORBIDDEN, "A page of another site may not use the console", CLOSE_CONNECTION
        return None

    def _foreign_page_refusal(self, headers: Headers) -> Refusal | None:
        """Refuses requests that a browser sends for pages of other sites, but for those of this machine."""
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return None
        if headers.get("origin") and (_is_same_machine(headers["origin"]) or headers["origin"] in self._origins):
            return None
        return HTTPStatus.FORBIDDEN, "A page of another site may not use this server", CLOSE_CONNECTION

    def _foreign_host_refusal(self, headers: Headers) -> Refusal | None:
        """Without a token the server is for this machine only: refuses foreign host names (DNS rebinding)."""
        if not self._is_open:
            return None
        name = _host(headers)
        if not name or is_loopback(name):
            return None
        detail = f"Without a token the server answers to 127.0.0.1 and localhost only, not to '{name[:200]}'"
        return HTTPStatus.FORBIDDEN, detail, CLOSE_CONNECTION


def listed(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def is_page(path: str) -> bool:
    """Whether a path belongs to the console."""
    return path in ("/", "/console") or path.startswith("/console/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is a loopback one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _host(headers: Headers) -> str:
    """The name in `Host`; empty if there is none."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return "a name that cannot be read"


def _unauthorized(tokens: str) -> Refusal:
    detail = f"This request requires the header 'Authorization: Bearer TOKEN' with the server's {tokens}"
    return HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer", **CLOSE_CONNECTION}


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    found = [part.strip().partition("=") for part in headers.get("cookie", "").split(";")]
    return next((value for name, _, value in found if name == COOKIE), "")


def _is_same_machine(origin: str) -> bool:
    """Whether the origin is absent (no browser) or a page of this machine."""
    host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
    return not origin or is_loopback(host)
