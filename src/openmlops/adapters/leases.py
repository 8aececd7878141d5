"""Leases: named locks held by one process at a time, which pass to another if their holder dies or falls silent.

What is here: one row per name, changed by compare-and-swap only, so that exactly one of several contenders succeeds, in SQLite,
PostgreSQL and MySQL alike. Each time a lease changes hands its `term` grows; a write that the lease protects compares the term
in its own transaction (`fences`), so that a holder who wakes up late changes nothing. What is not: the holder's work.

A lease is over when it was released, when its holder is a process of this machine that is dead, or when it was not renewed for
its length. That is told by the clock of a database server, which all holders share. An embedded database has no clock of its
own: there a holder who seems late is watched for half a length before its lease is taken.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, DateTime, Engine, delete, func, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import writing
from openmlops.adapters.fences import Lease, holder_name, is_dead, lost, require, same
from openmlops.adapters.schema import LEASE
from openmlops.errors import LeaseLost, LeaseTaken, ServiceUnavailable

NEVER = datetime(1970, 1, 2, tzinfo=UTC)
HEARTBEATS = 3
"""renewals per length of a lease"""
WATCHED = 0.5
"""share of its length for which a holder who seems late is watched, where the database has no clock of its own"""


class Held:
    """A lease that this process holds, renewed by a thread."""

    def __init__(self, lease: Lease, length: timedelta) -> None:
        self.lease, self._length = lease, length
        self.lost, self._renewed = threading.Event(), uptime()

    def renewed(self) -> None:
        """Note that the lease was renewed now."""
        self._renewed = uptime()

    def check(self) -> None:
        """Raises LeaseLost if another process has acquired the lease, or if it was not renewed for its length."""
        if self.lost.is_set() or uptime() - self._renewed >= self._length.total_seconds():
            raise lost(self.lease)


class Leases:
    """The leases in a database. `clock` replaces that of the database; it is then believed by all."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime] | None = None) -> None:
        self._engine = engine
        self._clock = clock

    def now(self) -> datetime:
        """The time by the clock of the database server; by this machine's where the database is embedded."""
        if self._clock:
            return self._clock()
        if self._engine.dialect.name == "sqlite":
            return datetime.now(UTC)
        with self._engine.connect() as connection:
            return _database_time(connection)

    def take(self, name: str, holder: str, length: timedelta) -> Lease:
        """Acquire a lease that is free or over. Raises LeaseTaken that names the holder and the expiry.

        Where the database has no clock of its own it takes half a length to see that a holder is silent.
        """
        self._ensure(name)
        found = self.look(name)
        lease = Lease(name=name, holder=holder, term=found.term + 1, expires=self.now() + length)
        if not self._is_over(found, length) or not self._swap(found, lease):
            held = self.look(name)
            who, until = holder_name(held.holder), held.expires.isoformat(timespec="seconds")
            raise LeaseTaken(f"{who} holds the lease '{name}' until {until}", "Wait for it; a dead holder's lease expires")
        return lease

    def seize(self, name: str, holder: str, length: timedelta) -> Lease:
        """Acquire a lease, whoever holds it: for callers that already hold another lock. A holder's own is extended."""
        self._ensure(name)
        while True:
            found = self.look(name)
            term = found.term if found.holder == holder else found.term + 1
            lease = Lease(name=name, holder=holder, term=term, expires=self.now() + length)
            if self._swap(found, lease):
                return lease

    def claim(self, lease: Lease) -> Lease | None:
        """Begin the next term in place of a dead holder, so that one of several observers acts; returns None for the others."""
        claimed = lease.model_copy(update={"term": lease.term + 1})
        return claimed if self._swap(lease, claimed) else None

    def renew(self, lease: Lease, length: timedelta) -> Lease:
        """Extend the lease to `length` from now. Raises LeaseLost if another process has acquired it since."""
        renewed = lease.model_copy(update={"expires": self.now() + length})
        if not self._swap(lease, renewed):
            raise lost(lease)
        return renewed

    def release(self, lease: Lease) -> None:
        """Release the lease; does nothing if it was lost."""
        self._swap(lease, lease.model_copy(update={"expires": NEVER}))

    def require(self, lease: Lease) -> None:
        """Raises LeaseLost if another process has acquired the lease since. For what is written outside of the database."""
        with writing(self._engine) as connection:
            require(connection, lease)

    def look(self, name: str) -> Lease:
        """The current row; expired, in term 0, if the lease was never held."""
        with self._engine.connect() as connection:
            row = connection.execute(select(LEASE).where(LEASE.c.name == name)).mappings().first()
        return Lease(**row) if row else Lease(name=name, holder="", term=0, expires=NEVER)

    def forget(self, lease: Lease) -> None:
        """Delete the row; does nothing if the lease has changed hands."""
        with writing(self._engine) as connection:
            connection.execute(delete(LEASE).where(*same(lease)))

    def named(self, prefix: str) -> tuple[Lease, ...]:
        """All leases with this name prefix, held, released or expired, sorted by name."""
        found = select(LEASE).where(LEASE.c.name.startswith(prefix, autoescape=True)).order_by(LEASE.c.name)
        with self._engine.connect() as connection:
            return tuple(Lease(**row) for row in connection.execute(found).mappings())

    @contextmanager
    def holding(self, name: str, holder: str, length: timedelta) -> Iterator[Held]:
        """Hold a lease while the block runs, renewed by a thread."""
        lease = self.take(name, holder, length)
        try:
            with self.kept(lease, length) as held:
                yield held
        finally:
            with suppress(ServiceUnavailable):  # the database is unavailable: the lease will expire
                self.release(lease)

    @contextmanager
    def kept(self, lease: Lease, length: timedelta, regain: bool = False) -> Iterator[Held]:
        """Renew a lease by a thread while the block runs; afterwards it expires.

        With `regain`, one whose row was deleted because its holder seemed dead is acquired again.
        """
        held, ended = Held(lease, length), threading.Event()
        beating = threading.Thread(target=self._beat, args=(held, length, ended, regain), daemon=True)
        beating.start()
        try:
            yield held
        finally:
            ended.set()
            beating.join()

    def _beat(self, held: Held, length: timedelta, ended: threading.Event, regain: bool) -> None:
        """Renew until the block has ended or the lease is lost. Whatever else fails is tried again at the next beat, until the
        lease expires."""
        while not ended.wait(length.total_seconds() / HEARTBEATS):
            with suppress(Exception):
                try:
                    held.lease = self.renew(held.lease, length)
                    held.renewed()
                except LeaseLost:
                    if not regain or self.look(held.lease.name).holder not in ("", held.lease.holder):
                        held.lost.set()
                        return
                    held.lease = self.take(held.lease.name, held.lease.holder, length)

    def _is_over(self, lease: Lease, length: timedelta) -> bool:
        if lease.expires == NEVER or is_dead(lease.holder):
            return True
        now, is_shared = self.now(), self._clock is not None or self._engine.dialect.name != "sqlite"
        if lease.expires <= now and is_shared:
            return True
        is_late = lease.expires <= now or lease.expires > now + length
        return is_late and self._is_silent(lease, WATCHED * length.total_seconds())

    def _is_silent(self, lease: Lease, seconds: float) -> bool:
        """Whether the holder does not renew the lease within so many seconds of this process."""
        until, pause = uptime() + seconds, seconds / 10
        while uptime() < until:
            time.sleep(pause)
            if self.look(lease.name) != lease:
                return False
        return True

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
            changed = connection.execute(update(LEASE).where(*same(old)).values(new.model_dump(exclude={"name"})))
            return changed.rowcount == 1


def _database_time(connection: Connection) -> datetime:
    if connection.dialect.name == "postgresql":
        return connection.execute(select(func.clock_timestamp())).scalar_one().astimezone(UTC)  # type: ignore[no-any-return]
    found = connection.scalar(select(literal_column("UTC_TIMESTAMP(6)", DateTime)))
    assert found is not None
    return found.replace(tzinfo=UTC)


def uptime() -> float:
    """Seconds since the machine started, also those while it slept: no change of its clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
