"""Webhook notifications: one JSON object posted to one URL on an allowed host, with the headers of Standard Webhooks
(standardwebhooks.com): an id that repeats with a repeated message, a timestamp, and a signature if there is a secret.

What is not here: which events are sent (`operations.monitoring.notification`).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.util import parse_url

from openmlops.errors import NotificationError

SECONDS = 10.0
"""for one attempt, from looking up the host to the status of the response, however slowly it comes"""
ATTEMPTS = 3
PAUSES = wait_exponential_jitter(initial=1, max=10)
"""seconds between two attempts"""
SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)


class _NotNow(NotificationError):
    """A failure that another attempt may not meet."""


def post(
    url: str, content: Mapping[str, Any] | list[Any], allowed_hosts: Sequence[str], identity: str, secret: str = ""
) -> None:
    """Post `content` as JSON, up to three times. `identity` names the message: who gets it twice can tell. `secret` signs it.

    Redirects are not followed, and the body of the response is not read. Raises NotificationError, without the URL, which may
    contain secrets, if the host is not allowed, does not respond in time, or responds with an error.
    """
    host = _allowed(url, allowed_hosts)
    body = json.dumps(content if isinstance(content, list) else dict(content)).encode()
    key = signing_key(secret) if secret else b""
    attempts = Retrying(stop=stop_after_attempt(ATTEMPTS), wait=PAUSES, retry=retry_if_exception_type(_NotNow), reraise=True)
    attempts(lambda: _attempt(url, host, body, _headers(identity, body, key)))


def signing_key(secret: str) -> bytes:
    """The bytes that a secret as `whsec_MfKQ9r...` stands for. Raises NotificationError for another form."""
    try:
        found = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not secret.startswith(SECRET_PREFIX) or len(found) not in SECRET_BYTES:
        problem = f"NOTIFY_WEBHOOK_SECRET is not {SECRET_PREFIX} and 24 to 64 bytes in base64 (value hidden)"
        raise NotificationError(problem, f'Make one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"')
    return found


def signature(identity: str, timestamp: int, body: bytes, key: bytes) -> str:
    """HMAC-SHA256 of id, seconds since 1970 and body, as Standard Webhooks 1.0 defines it."""
    signed = f"{identity}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _headers(identity: str, body: bytes, key: bytes) -> dict[str, str]:
    timestamp = int(time.time())
    found = {"Content-Type": "application/json", "webhook-id": identity, "webhook-timestamp": str(timestamp)}
    return found | ({"webhook-signature": signature(identity, timestamp, body, key)} if key else {})


def _attempt(url: str, host: str, body: bytes, headers: Mapping[str, str]) -> None:
    loop = asyncio.new_event_loop()  # not asyncio.run, whose end waits for a look-up of the host that hangs
    try:
        status = loop.run_until_complete(_status(url, body, headers))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        problem = f"{host} did not accept the notification ({type(error).__name__})"
        raise _NotNow(problem, "Check the webhook") from None
    except ImportError:
        problem = f"{host} cannot be reached through the SOCKS proxy of the environment (ALL_PROXY or another)"
        raise NotificationError(problem, f"Run pip install 'httpx[socks]', or add {host} to NO_PROXY") from None
    finally:
        loop.close()
    if not 200 <= status < 300:
        kind = _NotNow if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS else NotificationError
        raise kind(f"{host} responded to the notification with {status}", "Check the webhook")


async def _status(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    async with (
        asyncio.timeout(SECONDS),
        httpx.AsyncClient(follow_redirects=False) as client,
        client.stream("POST", url, content=body, headers=dict(headers)) as response,
    ):
        return response.status_code


def _allowed(url: str, allowed_hosts: Sequence[str]) -> str:
    """The host of `url`. It is refused if two parsers do not read the same one: the request goes by httpx's."""
    try:
        parts, found = parse_url(url), httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        raise _no_url() from None
    host = found.host.lower()
    if not host or found.scheme not in ("http", "https") or (parts.host or "").strip("[]").lower() != host:
        raise _no_url()
    if host not in {allowed.lower() for allowed in allowed_hosts}:
        problem = f"NOTIFY_WEBHOOK_URL names the host {host}, which is not in NOTIFY_ALLOWED_HOSTS"
        raise NotificationError(problem, f"Add {host} to NOTIFY_ALLOWED_HOSTS if it is correct")
    return host


def _no_url() -> NotificationError:
    return NotificationError("NOTIFY_WEBHOOK_URL is not an http or https URL (value hidden)", "Correct it, or leave it empty")
