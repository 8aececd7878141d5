"""Messages to people that the webhook has not acknowledged yet: kept in the database until it has.

What is here: the rows, and which of them a process may send now. What is not: what a message says and how it is sent
(`operations.monitoring.notification`).
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import writing
from openmlops.adapters.schema import OUTBOX
from openmlops.core.types import Value

CLAIMED = timedelta(minutes=2)
"""how long a message that a process is sending is left to it; longer than all attempts of one post"""
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(hours=1)
"""pause after the first failure, which doubles, and the longest one"""


class Message(Value):
    """One message. `identity` names it for who receives it twice; `content` is JSON; `problem`: why it was not delivered."""

    identity: str
    model: str
    at: datetime
    content: str
    attempts: int = 0
    problem: str = ""


class Outbox:
    """The messages in the database of `engine`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, message: Message) -> None:
        """Keep a message until it is delivered; does nothing if one of this identity is kept already. Raises
        ServiceUnavailable."""
        row = {**message.model_dump(), "due": message.at}
        with suppress(IntegrityError), writing(self._engine) as connection:
            connection.execute(insert(OUTBOX), row)

    def waiting(self, model: str) -> tuple[Message, ...]:
        """The messages of a model that are not delivered, oldest first."""
        found = select(OUTBOX).where(OUTBOX.c.model == model).order_by(OUTBOX.c.sequence)
        with self._engine.connect() as connection:
            rows = connection.execute(found).mappings().all()
        return tuple(Message(**{name: row[name] for name in Message.model_fields}) for row in rows)

    def claim(self, model: str, now: datetime, again: bool = False) -> Iterator[Message]:
        """Yield the messages that are due, oldest first, each claimed for this process; with `again`, also those whose pause is
        not over after a failure. A process that died keeps its claim for CLAIMED."""
        is_due = or_(OUTBOX.c.due <= now, OUTBOX.c.due > now + LONGEST + CLAIMED)  # the latter by a clock that was ahead
        if again:
            is_due = or_(is_due, OUTBOX.c.problem != "")
        for message in self.waiting(model):
            with writing(self._engine) as connection:
                its = (OUTBOX.c.identity == message.identity, is_due, OUTBOX.c.attempts == message.attempts)
                claim = update(OUTBOX).where(*its).values(due=now + CLAIMED, attempts=message.attempts + 1)
                is_ours = connection.execute(claim).rowcount == 1
            if is_ours:
                yield message.model_copy(update={"attempts": message.attempts + 1})

    def delivered(self, message: Message) -> None:
        """Forget a message that was acknowledged."""
        with writing(self._engine) as connection:
            connection.execute(delete(OUTBOX).where(OUTBOX.c.identity == message.identity))

    def failed(self, message: Message, problem: str, now: datetime) -> None:
        """Note why a message was not delivered, and when it is due again."""
        pause = min(SHORTEST * 2 ** min(message.attempts, 20), LONGEST)
        with writing(self._engine) as connection:
            its = update(OUTBOX).where(OUTBOX.c.identity == message.identity)
            connection.execute(its.values(problem=problem, due=now + pause))
