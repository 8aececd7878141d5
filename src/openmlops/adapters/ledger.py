"""The ledger: the one authority on which version of a model is champion, and why, at any instant.

What is here: an append-only table in which each row holds the hash of the one before, and a new row is accepted only at
the next sequence number of its model (the primary key is the compare-and-swap). What is not: who deserves to be champion
(`core.gate`), the registry that shows it (`operations.promotion` mirrors it there), and a clock (the caller's).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import snapshots, writing
from openmlops.adapters.schema import LEDGER, LEDGER_HEAD
from openmlops.core.types import LedgerEntry, Verdict
from openmlops.errors import LedgerConflict, LedgerCorrupt

GENESIS = "0" * 64
"""`previous` of a model's first row"""

Kind = Literal["promote", "reject", "inconclusive", "rollback"]


class Ledger:
    """Rows of `LedgerEntry` in a database. Whatever it reads has had its hash checked, `history` the chain too."""

    def __init__(self, engine: Engine) -> None:
        self._engine = snapshots(engine)  # a row and the record of the head must be of one moment

    def head(self, model: str) -> LedgerEntry | None:
        """The newest row, or None when the model has none. Raises LedgerCorrupt."""
        with self._engine.connect() as connection:
            return _head(connection, model)

    def champion(self, model: str) -> int | None:
        """The version in production now, or None when none ever was. Raises LedgerCorrupt."""
        head = self.head(model)
        return head.champion if head else None

    def history(self, model: str) -> tuple[LedgerEntry, ...]:
        """Every row, oldest first, the whole chain checked. Raises LedgerCorrupt naming the first sequence number that is not
        as it was written.

        Noticed: any changed byte of any column, a deleted, inserted or reordered row, a deleted tail (the head is kept in
        a table of its own). Not noticed: somebody who may write to the database, rewrites a row and all hashes after it,
        and the head too; or who removes the tail and sets the head back, or every trace of a model. Against that, compare
        `head(model).hash` with a copy that was kept elsewhere.
        """
        with self._engine.connect() as connection:
            rows, head = _rows(connection, model), _head_row(connection, model)
        entries: list[LedgerEntry] = []
        for sequence, row in enumerate(rows, start=1):
            if row["sequence"] != sequence:
                raise _corrupt(model, sequence, "is missing")
            if row["previous"] != (entries[-1].hash if entries else GENESIS):
                raise _corrupt(model, sequence, "does not continue the row before it")
            entries.append(_entry(row))
        _check_head(model, head, len(rows), entries[-1].hash if entries else GENESIS)
        return tuple(entries)

    def champions(self, model: str) -> tuple[int, ...]:
        """The distinct versions that ever were champion, in the order in which they first became it."""
        return tuple(dict.fromkeys(entry.champion for entry in self.history(model) if entry.champion is not None))

    def models(self) -> tuple[str, ...]:
        """The names of all models that have a row, sorted."""
        with self._engine.connect() as connection:
            return tuple(sorted(connection.scalars(select(LEDGER.c.model).distinct())))

    def champion_at(self, model: str, instant: datetime) -> int | None:
        """Who was in production at an instant (aware). A row counts from its own time on."""
        known = [entry for entry in self.history(model) if entry.at <= instant]
        return known[-1].champion if known else None

    def append(
        self,
        model: str,
        expected_sequence: int,
        kind: Kind,
        version: int,
        actor: str,
        reasons: tuple[str, ...],
        dataset: str,
        model_sha256: str,
        verdict: Verdict | None,
        at: datetime,
    ) -> LedgerEntry:
        """Add one row after the one that the caller decided upon, and return it.

        `expected_sequence` is that of the head which the decision was based on, 0 for a model without rows. Raises
        LedgerConflict, and writes nothing, when somebody else was first.
        """
        try:
            with writing(self._engine) as connection:
                head = _head(connection, model)
                if (head.sequence if head else 0) != expected_sequence:
                    raise _conflict(model, expected_sequence)
                row = {
                    "model": model,
                    "sequence": expected_sequence + 1,
                    "kind": kind,
                    "version": version,
                    "champion": version if kind in ("promote", "rollback") else head.champion if head else None,
                    "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
                    "actor": actor,
                    "reasons": json.dumps(reasons),
                    "dataset": dataset,
                    "model_sha256": model_sha256,
                    "verdict": verdict.model_dump_json() if verdict else None,
                    "previous": head.hash if head else GENESIS,
                }
                return _write(connection, row)
        except IntegrityError as error:
            raise _conflict(model, expected_sequence) from error


def _rows(connection: Connection, model: str) -> Sequence[RowMapping]:
    query = select(LEDGER).where(LEDGER.c.model == model).order_by(LEDGER.c.sequence)
    return connection.execute(query).mappings().all()


def _head_row(connection: Connection, model: str) -> RowMapping | None:
    return connection.execute(select(LEDGER_HEAD).where(LEDGER_HEAD.c.model == model)).mappings().first()


def _head(connection: Connection, model: str) -> LedgerEntry | None:
    query = select(LEDGER).where(LEDGER.c.model == model).order_by(LEDGER.c.sequence.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    entry = _entry(row) if row else None
    _check_head(model, _head_row(connection, model), entry.sequence if entry else 0, entry.hash if entry else GENESIS)
    return entry


def _write(connection: Connection, row: dict[str, Any]) -> LedgerEntry:
    """Insert the row, then move the head: in this order everybody waits at the same place, the primary key."""
    row["hash"] = _hash(row)
    connection.execute(insert(LEDGER).values(row))
    connection.execute(delete(LEDGER_HEAD).where(LEDGER_HEAD.c.model == row["model"]))
    connection.execute(insert(LEDGER_HEAD).values({name: row[name] for name in ("model", "sequence", "hash")}))
    return _entry(row)


def _hash(row: Mapping[str, Any] | RowMapping) -> str:
    """SHA-256 of everything in the row as it is stored, except the hash itself."""
    covered = {name: value for name, value in row.items() if name != "hash"}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _entry(row: Mapping[str, Any] | RowMapping) -> LedgerEntry:
    if row["hash"] != _hash(row):
        raise _corrupt(row["model"], row["sequence"], "has another content than its hash was made of")
    try:
        verdict = Verdict.model_validate_json(row["verdict"]) if row["verdict"] is not None else None
        return LedgerEntry.model_validate({**row, "reasons": json.loads(row["reasons"]), "verdict": verdict})
    except ValidationError as error:
        raise _corrupt(row["model"], row["sequence"], "was written by a newer version of OpenMLOps") from error


def _check_head(model: str, head: RowMapping | None, sequence: int, expected: str) -> None:
    recorded, written = (head["sequence"], head["hash"]) if head else (0, GENESIS)
    if recorded > sequence:
        raise _corrupt(model, sequence + 1, f"is missing (the head is recorded at {recorded})")
    if (recorded, written) != (sequence, expected):
        raise _corrupt(model, sequence, f"is not the recorded head ({recorded})")


def _corrupt(model: str, sequence: Any, problem: str) -> LedgerCorrupt:
    remedy = "Restore the database from a backup from before the change; nothing is promoted until the chain holds"
    return LedgerCorrupt(f"The ledger of {model} is broken: row {sequence} {problem}", remedy)


def _conflict(model: str, expected: int) -> LedgerConflict:
    problem = f"The ledger of {model} has moved on from sequence {expected}, which this decision was based on"
    return LedgerConflict(problem, "Run the command again: it will judge against the champion of now")
