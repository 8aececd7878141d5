"""What a write compares that only the holder of a lease may do: the lease's term, in the write's own transaction.

What is here: the value and the comparison. What is not: how a lease is acquired and renewed (`leases`).
"""

from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, select

from openmlops.adapters.processes import Process
from openmlops.adapters.schema import LEASE
from openmlops.core.types import Value
from openmlops.errors import LeaseLost


class Lease(Value):
    """The lock `name`, held until `expires`. `term` distinguishes successive leases of one name."""

    name: str
    holder: str
    term: int
    expires: datetime


def require(connection: Connection, lease: Lease | None) -> None:
    """As the first statement of a transaction that the lease protects: raises LeaseLost if it has changed hands. Nobody can
    acquire it before the transaction ends. None: the write is not protected."""
    if lease and connection.scalar(select(LEASE.c.term).where(*same(lease)).with_for_update()) is None:
        raise lost(lease)


def same(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """The condition that the row still has this holder and term."""
    return LEASE.c.name == lease.name, LEASE.c.holder == lease.holder, LEASE.c.term == lease.term


def lost(lease: Lease) -> LeaseLost:
    """The error of whoever held the lease before."""
    problem = f"The lease '{lease.name}' of {holder_name(lease.holder)} expired and was taken by another process"
    return LeaseLost(problem, "Nothing more was written; start again")


def process_of(holder: str) -> Process | None:
    """The process that a holder names; None if it is named in words."""
    try:
        return Process.model_validate_json(holder)
    except ValidationError:
        return None


def is_dead(holder: str) -> bool:
    """Whether the holder is known to be a dead process of this machine."""
    process = process_of(holder)
    return process is not None and process.is_dead is True


def holder_name(holder: str) -> str:
    """The holder for people."""
    return str(process_of(holder) or holder)
