"""What a proxy says of the request that it passes on: scheme, host and client, believed of TRUSTED_PROXIES only."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openmlops.errors import SettingsError
from openmlops.web.access import listed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(text: str) -> tuple[Network, ...]:
    """`127.0.0.1, 10.0.0.0/8` as networks. Raises SettingsError."""
    found = []
    for part in listed(text):
        try:
            found.append(ipaddress.ip_network(part))
        except ValueError as error:
            remedy = "Name the addresses of the proxies, such as 127.0.0.1, 10.0.0.0/8"
            raise SettingsError(f"TRUSTED_PROXIES names '{part[:80]}', which is no address or network", remedy) from error
    return tuple(found)


class ForwardedMiddleware:
    """Applies X-Forwarded-For, -Proto and -Host of trusted proxies; of others they are left unread."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app, self._trusted = app, tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = str((scope.get("client") or ("",))[0])
        if scope["type"] == "http" and self._is_trusted(address):
            scope = self._seen_from_outside(scope)
        await self._app(scope, receive, send)

    def _seen_from_outside(self, scope: Scope) -> Scope:
        headers, seen = Headers(scope=scope), dict(scope)
        if (scheme := _last(headers.get("x-forwarded-proto", ""))) in ("http", "https"):
            seen["scheme"] = scheme
        if host := _last(headers.get("x-forwarded-host", "")):
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            seen["headers"] = [*kept, (b"host", host.encode("latin-1"))]
        hops = listed(headers.get("x-forwarded-for", ""))
        while len(hops) > 1 and self._is_trusted(hops[-1]):
            hops.pop()
        if hops:
            seen["client"] = (hops[-1], 0)
        return seen

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._trusted)


def _last(value: str) -> str:
    """What the nearest proxy has added."""
    return value.rpartition(",")[2].strip()
