"""Sessions as signed cookies, which contain a role and an expiry time but no token.

The signing key is generated once per home folder, so that all worker processes share it, and combined with the tokens: changing
a token invalidates all sessions.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from openmlops.files import create_bytes

COOKIE = "openmlops_session"
SECONDS = 12 * 3600
KEY_FILE = "console.key"
_ROLES = ("act", "read")


class Sessions:
    """Creates and verifies session cookies; `clock` returns the time in seconds."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key, self._clock = key, clock

    def begin(self, role: Literal["act", "read"]) -> str:
        """The cookie of a new session."""
        content = f"{role}.{int(self._clock()) + SECONDS}"
        return f"{content}.{self._signature(content)}"

    def role_of(self, cookie: str) -> Literal["act", "read"] | None:
        """The role of a session; None if it is expired or has no valid signature."""
        content, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            return None
        role, _, until = content.partition(".")
        return role if role in _ROLES and int(until) > self._clock() else None  # type: ignore[return-value]

    def name_of(self, cookie: str) -> str:
        """A name for a session that says nothing of its cookie."""
        return hashlib.sha256(self._key + cookie.encode()).hexdigest()[:8]

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()


def session_key(home: Path, *tokens: str) -> bytes:
    """The session key of a home folder and these tokens; the stored part is generated on first use."""
    if not any(tokens):
        return secrets.token_bytes(32)
    path = home / KEY_FILE
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create_key(path)
    content = "\n".join(hashlib.sha256(token.encode()).hexdigest() for token in tokens)
    return hmac.new(path.read_bytes(), content.encode(), hashlib.sha256).digest()


def _create_key(path: Path) -> None:
    """Create the key file atomically: of concurrent processes one wins, and all use its key."""
    with suppress(FileExistsError):
        create_bytes(path, secrets.token_bytes(32), 0o600)
