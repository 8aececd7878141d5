"""Leases: named locks held by one process at a time, which expire if their holder dies.

What is here: one row per name, changed by compare-and-swap only, so that exactly one of several contenders succeeds, in SQLite,
PostgreSQL and MySQL alike. What is not: the holder's work. Clocks of different machines must agree to within a small fraction
of a lease's length; what must happen once even if they do not (a promotion) is also guarded by the ledger.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import writing
from openmlops.adapters.schema import LEASE
from openmlops.core.types import Value
from openmlops.errors import LeaseLost, LeaseTaken, ServiceUnavailable

NEVER = datetime(1970, 1, 2, tzinfo=UTC)
HEARTBEATS = 3
"""renewals per length of a lease"""


class Lease(Value):
    """The lock `name`, held until `expires`. `term` distinguishes successive leases of one name."""

    name: str
    holder: str
    term: int
    expires: datetime


class Leases:
    """The leases in a database. `clock` returns the current time, timezone-aware."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._clock = clock

    def take(self, name: str, holder: str, length: timedelta) -> Lease:
        """Acquire a free or expired lease. Raises LeaseTaken that names the holder and the expiry."""
        self._ensure(name)
        found = self.look(name)
        now = self._clock()
        lease = Lease(name=name, holder=holder, term=found.term + 1, expires=now + length)
        if found.expires > now or not self._swap(found, lease):
            held = self.look(name)
            until = held.expires.isoformat(timespec="seconds")
            raise LeaseTaken(
                f"{held.holder} holds the lease '{name}' until {until}", "Wait for it; a dead holder's lease expires"
            )
        return lease

    def seize(self, name: str, holder: str, length: timedelta) -> None:
        """Acquire or extend a lease, whoever holds it: for callers that already hold another lock."""
        self._ensure(name)
        values = {"holder": holder, "term": LEASE.c.term + 1, "expires": self._clock() + length}
        with writing(self._engine) as connection:
            connection.execute(update(LEASE).where(LEASE.c.name == name).values(values))

    def claim(self, lease: Lease) -> Lease | None:
        """Begin the next term in place of a dead holder, so that one of several observers acts; returns None for the others."""
        claimed = lease.model_copy(update={"term": lease.term + 1})
        return claimed if self._swap(lease, claimed) else None

    def renew(self, lease: Lease, length: timedelta) -> Lease:
        """Extend the lease to `length` from now. Raises LeaseLost if another process has acquired it since."""
        renewed = lease.model_copy(update={"expires": self._clock() + length})
        if not self._swap(lease, renewed):
            raise LeaseLost(
                f"The lease '{lease.name}' of {lease.holder} expired and was taken by another process", "Start again"
            )
        return renewed

    def release(self, lease: Lease) -> None:
        """Release the lease; does nothing if it was lost."""
        self._swap(lease, lease.model_copy(update={"expires": NEVER}))

    def look(self, name: str) -> Lease:
        """The current row; expired, in term 0, if the lease was never held."""
        with self._engine.connect() as connection:
            row = connection.execute(select(LEASE).where(LEASE.c.name == name)).mappings().first()
        return Lease(**row) if row else Lease(name=name, holder="", term=0, expires=NEVER)

    def forget(self, lease: Lease) -> None:
        """Delete the row; does nothing if the lease has changed hands."""
        with writing(self._engine) as connection:
            connection.execute(delete(LEASE).where(*_same(lease)))

    def named(self, prefix: str) -> tuple[Lease, ...]:
        """All leases with this name prefix, held, released or expired, sorted by name."""
        found = select(LEASE).where(LEASE.c.name.startswith(prefix, autoescape=True)).order_by(LEASE.c.name)
        with self._engine.connect() as connection:
            return tuple(Lease(**row) for row in connection.execute(found).mappings())

    @contextmanager
    def holding(self, name: str, holder: str, length: timedelta) -> Iterator[Callable[[], None]]:
        """Hold a lease while the block runs, renewed by a thread. Yields a check that raises LeaseLost once it is lost."""
        lease = self.take(name, holder, length)
        ended, lost = threading.Event(), threading.Event()
        beating = threading.Thread(target=self._beat, args=(lease, length, ended, lost), daemon=True)
        beating.start()

        def check() -> None:
            if lost.is_set():
                raise LeaseLost(f"The lease '{name}' of {holder} expired and was taken by another process", "Start again")

        try:
            yield check
        finally:
            ended.set()
            beating.join()
            with suppress(ServiceUnavailable):  # the database is unavailable: the lease will expire
                self.release(lease)

    def _beat(self, lease: Lease, length: timedelta, ended: threading.Event, lost: threading.Event) -> None:
        while not ended.wait(length.total_seconds() / HEARTBEATS):
            try:
                self.renew(lease, length)
            except LeaseLost:
                lost.set()
                return
            except ServiceUnavailable:  # the database is unavailable: try again at the next beat, until the lease expires
                continue

    def _ensure(self, name: str) -> None:
        """Ensure that the row exists. In a transaction of its own: select-then-insert can deadlock in MySQL."""
        if self.look(name).term:
            return
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(LEASE), {"name": name, "holder": "", "term": 0, "expires": NEVER})
        except IntegrityError:  # it exists already
            return

    def _swap(self, old: Lease, new: Lease) -> bool:
        """Compare-and-swap: write `new` if the row still has the holder and term of `old`."""
        with writing(self._engine) as connection:
            changed = connection.execute(update(LEASE).where(*_same(old)).values(new.model_dump(exclude={"name"})))
            return changed.rowcount == 1


def _same(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """The condition that the row still has this holder and term."""
    return LEASE.c.name == lease.name, LEASE.c.holder == lease.holder, LEASE.c.term == lease.term
