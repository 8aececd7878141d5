"""Whether the clock can be believed before something is deleted for its age: for one that is a month ahead, all is too old.

A note on the disk says when the clock was believed last. A clock far beyond that is doubted: the caller reports it and deletes
nothing. It is believed all the same once it has gone on evenly for a day, as after a long time without any pruning. Not here:
what is deleted.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from openmlops.core.types import Value
from openmlops.files import write_text

LONG = timedelta(days=2)
"""time since the last look after which the clock may have jumped; twice the time between two daily prunings"""
DOUBT = timedelta(days=1)
"""how long a clock must go on before it is believed all the same"""


class ClockNote(Value):
    """What is known of the clock: when it was `believed` last, its time at the last `look`, and the first one it was doubted
    at."""

    believed: datetime
    look: datetime
    doubted: datetime | None = None


def judge(before: ClockNote | None, now: datetime, newest: datetime | None) -> ClockNote:
    """The note after a look at the clock. Without a note from before, `newest`, the time of the newest row, tells whether the
    clock may have jumped; later it tells nothing, because rows may have been written by the clock in doubt."""
    believed = before.believed if before else newest or now
    if now - believed <= LONG:
        return ClockNote(believed=now, look=now)
    goes_on = before is not None and before.doubted is not None and timedelta(0) <= now - before.look <= LONG
    since = before.doubted if before and before.doubted and goes_on else now
    return ClockNote(believed=now, look=now) if now - since >= DOUBT else ClockNote(believed=believed, look=now, doubted=since)


def doubt(note: Path, now: datetime, newest: Callable[[], datetime | None]) -> str:
    """Why the clock is doubted, as a sentence; empty if it is believed. `newest` is called where there is no note yet.

    Where the note cannot be written, the clock is judged by what is there.
    """
    before = _read(note)
    after = judge(before, now, None if before else newest())
    with suppress(OSError):
        write_text(note, after.model_dump_json())
    if after.doubted is None:
        return ""
    jumped = f"the clock says {now:%Y-%m-%d %H:%M} UTC, and {after.believed:%Y-%m-%d %H:%M} was the last time known here"
    return f"Nothing is pruned for its age before {after.doubted + DOUBT:%Y-%m-%d %H:%M} UTC: {jumped}. Check the clock"


def _read(note: Path) -> ClockNote | None:
    try:
        return ClockNote.model_validate_json(note.read_bytes())
    except (OSError, ValidationError):
        return None
