"""Webhook notifications: one JSON object posted to one URL on an allowed host.

What is not here: which events are sent (`operations.monitoring.notification`), and retries: the decision is stored anyway.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import requests
from urllib3.util import parse_url

from openmlops.errors import NotificationError

SECONDS = 5.0
"""timeout in seconds to connect, and then to respond"""


def post(url: str, content: Mapping[str, Any], allowed_hosts: Sequence[str]) -> None:
    """Post `content` as JSON. Errors do not contain the URL, because webhook URLs contain secrets.

    Raises NotificationError if the host is not allowed, does not respond, or responds with an error; redirects are not
    followed.
    """
    request = _prepared(url, content)
    host = _allowed(str(request.url), allowed_hosts)
    try:
        with requests.Session() as session:
            response = session.send(request, timeout=SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        raise NotificationError(
            f"{host} did not accept the notification ({type(error).__name__})", "Check the webhook"
        ) from None
    if not 200 <= response.status_code < 300:
        raise NotificationError(f"{host} responded to the notification with {response.status_code}", "Check the webhook")


def _prepared(url: str, content: Mapping[str, Any]) -> requests.PreparedRequest:
    """The prepared request. Its URL is the one to check, because other parsers may read another host from `url`."""
    try:
        found = requests.Request("POST", url, json=dict(content)).prepare()
    except (requests.RequestException, ValueError):
        raise _no_url() from None
    return found


def _allowed(url: str, allowed_hosts: Sequence[str]) -> str:
    try:
        parts = parse_url(url)
    except ValueError:
        raise _no_url() from None
    host = (parts.host or "").strip("[]").lower()
    if not host or parts.scheme not in ("http", "https"):
        raise _no_url()
    if host not in {allowed.lower() for allowed in allowed_hosts}:
        problem = f"NOTIFY_WEBHOOK_URL names the host {host}, which is not in NOTIFY_ALLOWED_HOSTS"
        raise NotificationError(problem, f"Add {host} to NOTIFY_ALLOWED_HOSTS if it is correct")
    return host


def _no_url() -> NotificationError:
    return NotificationError("NOTIFY_WEBHOOK_URL is not an http or https URL (value hidden)", "Correct it, or leave it empty")
