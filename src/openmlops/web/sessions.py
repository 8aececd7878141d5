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

from openmlops.files import create_bytes, place_bytes

COOKIE = "openmlops_session"
SECONDS = 12 * 3600
KEY_FILE = "console.key"
_ROLES = ("act", "read")


class Sessions:
    """Creates, verifies and ends session cookies; `clock` returns the time in seconds. `ended`: folder of the sessions that
    were ended before their time, shared by all processes."""

    def __init__(self, key: bytes, clock: Callable[[], float], ended: Path) -> None:
        self._key, self._clock, self._ended = key, clock, ended

    def begin(self, role: Literal["act", "read"]) -> str:
        """The cookie of a new session."""
        content = f"{role}.{int(self._clock()) + SECONDS}.{secrets.token_hex(16)}"
        return f"{content}.{self._signature(content)}"

    def role_of(self, cookie: str) -> Literal["act", "read"] | None:
        """The role of a session; None if it is expired or has no valid signature."""
        content, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            return None
        role, _, rest = content.partition(".")
        until, _, name = rest.partition(".")
        if role not in _ROLES or not name or int(until) <= self._clock() or (self._ended / name).exists():
            return None
        return role  # type: ignore[return-value]

    def end(self, cookie: str) -> None:
        """End a session in all processes. A cookie that is not a session is ignored. Raises OSError."""
        if self.role_of(cookie) is None:
            return
        self._ended.mkdir(parents=True, exist_ok=True)
        for past in self._ended.iterdir():
            if past.stat().st_mtime < self._clock() - SECONDS:
                past.unlink(missing_ok=True)
        place_bytes(self._ended / cookie.split(".")[2], b"")

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
