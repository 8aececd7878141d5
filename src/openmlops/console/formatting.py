"""Jinja filters that format numbers and times."""

from datetime import UTC, datetime

from openmlops.core.types import Interval

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def ago(at: datetime, now: datetime) -> str:
    """`3 h ago`; within the last few seconds `just now`."""
    seconds = (now - at).total_seconds()
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago" if seconds >= 5 else "just now"


def utc(at: datetime) -> str:
    """`2026-11-26 14:43:24 UTC`"""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def minute(at: datetime) -> str:
    """`2026-11-26 14:43`"""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def interval(found: Interval) -> str:
    """`93.2 % [91.0, 94.9]`"""
    return f"{percent(found.value)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def ends(found: Interval) -> str:
    """`95 %: 91.0 to 94.9`"""
    return f"95 %: {100 * found.low:.1f} to {100 * found.high:.1f}"


def points(found: Interval) -> str:
    """A difference of shares in percentage points: `+2.1 points [+0.4, +3.8]`"""
    return f"{100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def percent(share: float) -> str:
    """`93.2 %`"""
    return f"{100 * share:.1f} %"


def spaced(text: str) -> str:
    """`not_measurable` -> `not measurable`"""
    return text.replace("_", " ")


def mark_of_state(state: str) -> str:
    """The mark of a version's state: good, bad, back (in doubt, or no longer in production) or unknown."""
    if "forced" in state:
        return "back" if state.startswith("champion") else "bad"
    return {"champion": "good", "rejected": "bad", "former champion": "back"}.get(state, "unknown")


FILTERS = {each.__name__: each for each in (ago, utc, minute, interval, ends, points, percent, spaced, mark_of_state)}
