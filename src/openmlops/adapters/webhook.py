"""Telling somebody outside: one JSON object posted to one URL, to an allowed host, never anywhere else.

What is not here: what is worth telling (`operations.notification`), and trying again: the decision is kept anyway.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests

from openmlops.errors import NotificationError

SECONDS = 5.0
"""how long the other side may take to connect, and then to answer"""


def post(url: str, content: Mapping[str, Any], allowed_hosts: Sequence[str]) -> None:
    """Post `content` as JSON. The URL stays out of errors, because such URLs hold secrets.

    Raises NotificationError if the host is not allowed, does not answer, or answers with anything but success; a redirect is
    not followed.
    """
    host = _allowed(url, allowed_hosts)
    try:
        answer = requests.post(url, json=dict(content), timeout=SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise NotificationError(f"{host} did not take the notification ({type(error).__name__})", "Check the webhook") from None
    if not 200 <= answer.status_code < 300:
        raise NotificationError(f"{host} answered the notification with {answer.status_code}", "Check the webhook")


def _allowed(url: str, allowed_hosts: Sequence[str]) -> str:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise NotificationError("NOTIFY_WEBHOOK_URL is no http or https URL (value hidden)", "Correct it, or leave it empty")
    if host not in {allowed.lower() for allowed in allowed_hosts}:
        problem = f"NOTIFY_WEBHOOK_URL names the host {host}, which NOTIFY_ALLOWED_HOSTS does not"
        raise NotificationError(problem, f"Add {host} there if it is the one you mean")
    return host
