"""A session: what a login is worth, as a signed cookie. It says a role and until when, and holds no token.

The key is drawn once a home folder, so that all worker processes share it, and mixed with the tokens: whoever changes a token
ends every session.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

COOKIE = "openmlops_session"
SECONDS = 12 * 3600
KEY_FILE = "console.key"
_ROLES = ("act", "read")


class Sessions:
    """Makes cookies and reads them; `clock` is the time in seconds."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key, self._clock = key, clock

    def begin(self, role: Literal["act", "read"]) -> str:
        """The cookie of a new session."""
        content = f"{role}.{int(self._clock()) + SECONDS}"
        return f"{content}.{self._signature(content)}"

    def role_of(self, cookie: str) -> Literal["act", "read"] | None:
        """What a session allows; None for one that is over, or that we did not make."""
        content, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(content).encode()):
            return None
        role, _, until = content.partition(".")
        return role if role in _ROLES and int(until) > self._clock() else None  # type: ignore[return-value]

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), hashlib.sha256).hexdigest()


def session_key(home: Path, *tokens: str) -> bytes:
    """The key of this home's sessions, drawn if there is none yet; another one for other tokens."""
    if not any(tokens):
        return secrets.token_bytes(32)
    path = home / KEY_FILE
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _create_key(path)
    content = "\n".join(hashlib.sha256(token.encode()).hexdigest() for token in tokens)
    return hmac.new(path.read_bytes(), content.encode(), hashlib.sha256).digest()


def _create_key(path: Path) -> None:
    """Put a key where there is none. Of several processes that do so at once, one wins and all use its key."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    beside.touch(mode=0o600)
    beside.write_bytes(secrets.token_bytes(32))
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
