"""The ledger: the single source of truth for which version of a model is champion, and why, at any time.

What is here: an append-only, hash-chained table. A new row is accepted only at the next sequence number of its model (the
primary key is the compare-and-swap). What is not: the promotion decision (`core.gate`), the registry's aliases, which mirror
it (`operations.release.promotion`), and the clock (the caller's).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select
from sqlalchemy.exc import IntegrityError

from openmlops.adapters.database import snapshots, writing
from openmlops.adapters.fences import Lease, require
from openmlops.adapters.schema import LEDGER, LEDGER_HEAD, PROGRESS
from openmlops.core.types import LedgerEntry, Verdict
from openmlops.errors import LedgerConflict, LedgerCorrupt

GENESIS = "0" * 64
"""`previous` of a model's first row"""

TOLD = 3
"""rows that a conflict tells of"""

Kind = Literal["promote", "reject", "inconclusive", "rollback"]
Row = dict[str, Any]
"""column -> value, as stored"""

_ANEW = "ledger-anew/{}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Ledger:
    """Rows of `LedgerEntry` in a database. Every read verifies the row's hash, `history` the whole chain."""

    def __init__(self, engine: Engine) -> None:
        self._engine = snapshots(engine)  # a row and the head record must be read from one snapshot

    def head(self, model: str) -> LedgerEntry | None:
        """The newest row, or None if the model has none. Raises LedgerCorrupt."""
        with self._engine.connect() as connection:
            return _head(connection, model)

    def champion(self, model: str) -> int | None:
        """The current champion, or None if there never was one. Raises LedgerCorrupt."""
        head = self.head(model)
        return head.champion if head else None

    def history(self, model: str) -> tuple[LedgerEntry, ...]:
        """Every row, oldest first, with the whole chain verified. Raises LedgerCorrupt that names the first altered sequence
        number.

        Detected: any changed byte of any column, a deleted, inserted or reordered row, a deleted tail (the head is kept in a
        separate table). Not detected: somebody with write access who rewrites a row, all hashes after it and the head; who
        deletes the tail and resets the head; or who deletes all rows of a model. These are found by comparing with what is
        known of the ledger elsewhere (`operations.release.witnesses`).
        """
        with self._engine.connect() as connection:
            rows, head = _rows(connection, model), _head_row(connection, model)
        entries = chain(model, rows)
        _check_head(model, head, len(rows), entries[-1].hash if entries else GENESIS)
        return entries

    def champions(self, model: str) -> tuple[int, ...]:
        """The distinct versions that have been champion, in the order of their first promotion."""
        return tuple(dict.fromkeys(entry.champion for entry in self.history(model) if entry.champion is not None))

    def champions_newest_first(self, model: str) -> tuple[int, ...]:
        """The distinct versions that have been champion, the current one first, then by when each last was."""
        return tuple(dict.fromkeys(e.champion for e in reversed(self.history(model)) if e.champion is not None))

    def since(self, model: str, sequence: int) -> tuple[LedgerEntry, ...]:
        """The rows after a sequence number, oldest first, each verified by its own hash. Raises LedgerCorrupt."""
        with self._engine.connect() as connection:
            return _since(connection, model, sequence)

    def models(self) -> tuple[str, ...]:
        """Names of all models with at least one row, sorted."""
        with self._engine.connect() as connection:
            return tuple(sorted(connection.scalars(select(LEDGER.c.model).distinct())))

    def champion_at(self, model: str, instant: datetime) -> int | None:
        """The champion at an instant (timezone-aware). A row takes effect at its own time."""
        known = [entry for entry in self.history(model) if entry.at <= instant]
        return known[-1].champion if known else None

    def rows(self, model: str) -> tuple[Row, ...]:
        """All rows as they are stored, oldest first, unverified: what a copy of the ledger is made of."""
        with self._engine.connect() as connection:
            return tuple(dict(row) for row in _rows(connection, model))

    def begun_anew(self, model: str) -> datetime | None:
        """When somebody declared, on purpose, that what is here is the ledger, whatever is known of another; None if never."""
        query = select(PROGRESS.c.position).where(PROGRESS.c.name == _ANEW.format(model))
        with self._engine.connect() as connection:
            position = connection.scalar(query)
        return _EPOCH + timedelta(microseconds=position) if position else None

    def begin_anew(self, model: str, at: datetime) -> None:
        """Declare that. What was known of the ledger before `at` counts no more."""
        row = {"name": _ANEW.format(model), "position": (at - _EPOCH) // timedelta(microseconds=1)}
        with writing(self._engine) as connection:
            connection.execute(delete(PROGRESS).where(PROGRESS.c.name == row["name"]))
            connection.execute(insert(PROGRESS), row)

    def rebuild(self, model: str, known: Sequence[Row], note: str) -> tuple[LedgerEntry, ...]:
        """Replace the rows of a model by those of a copy, `known`, and append after them those that the copy lacks.

        A promotion or rollback among these was decided without the rows that were lost, so that it is kept as a record only;
        each begins with `note`. Rows that do not match their hash are dropped. One transaction. Raises LedgerCorrupt if the
        copy is not one unbroken chain.
        """
        entries = chain(model, known)
        with writing(self._engine) as connection:
            hashes = {entry.hash for entry in entries}
            own = [row for row in _rows(connection, model) if row["hash"] == _hash(row) and row["hash"] not in hashes]
            for table in (LEDGER, LEDGER_HEAD):
                connection.execute(delete(table).where(table.c.model == model))
            head = {name: known[-1][name] for name in ("model", "sequence", "hash")}
            connection.execute(insert(LEDGER), [dict(row) for row in known])
            connection.execute(insert(LEDGER_HEAD).values(head))
            last = entries[-1]
            for row in own:
                last = _write(connection, _as_a_record(row, last, note))
        return self.history(model)

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
        fence: Lease | None = None,
    ) -> LedgerEntry:
        """Append one row after the head that the caller's decision was based on, and return it.

        `expected_sequence` is the sequence number of that head, 0 for a model without rows. Raises LedgerConflict that tells
        what happened, and writes nothing, if another process has appended since; LeaseLost if it has acquired the lease
        `fence`, under which the caller acts.
        """
        try:
            with writing(self._engine) as connection:
                require(connection, fence)
                head = _head(connection, model)
                if (head.sequence if head else 0) != expected_sequence:
                    raise conflict(model, expected_sequence, _since(connection, model, expected_sequence))
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
            raise conflict(model, expected_sequence, self.since(model, expected_sequence)) from error


def chain(model: str, rows: Sequence[Row | RowMapping]) -> tuple[LedgerEntry, ...]:
    """The entries of all rows of a model, oldest first. Raises LedgerCorrupt that names the first that breaks the chain."""
    entries: list[LedgerEntry] = []
    for sequence, row in enumerate(rows, start=1):
        if row["sequence"] != sequence:
            raise _corrupt(model, sequence, "is missing")
        if row["previous"] != (entries[-1].hash if entries else GENESIS):
            raise _corrupt(model, sequence, "does not continue the previous row")
        entries.append(_entry(row))
    return tuple(entries)


def _as_a_record(row: RowMapping, last: LedgerEntry, note: str) -> dict[str, Any]:
    """A row of a ledger that had lost others, as it is appended after them: it changes nothing in production."""
    changes = row["kind"] in ("promote", "rollback")
    was = f"{note}: it was row {row['sequence']}" + (f", a {row['kind']} of version {row['version']}" if changes else "")
    return {
        **row,
        "sequence": last.sequence + 1,
        "kind": "inconclusive" if changes else row["kind"],
        "champion": last.champion,
        "reasons": json.dumps((was, *json.loads(row["reasons"]))),
        "previous": last.hash,
    }


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
    """Insert the row, then move the head: in this order all writers contend at the same place, the primary key."""
    row["hash"] = _hash(row)
    connection.execute(insert(LEDGER).values(row))
    connection.execute(delete(LEDGER_HEAD).where(LEDGER_HEAD.c.model == row["model"]))
    connection.execute(insert(LEDGER_HEAD).values({name: row[name] for name in ("model", "sequence", "hash")}))
    return _entry(row)


def _hash(row: Mapping[str, Any] | RowMapping) -> str:
    """SHA-256 of all stored columns of the row except the hash itself."""
    covered = {name: value for name, value in row.items() if name != "hash"}
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _entry(row: Mapping[str, Any] | RowMapping) -> LedgerEntry:
    if row["hash"] != _hash(row):
        raise _corrupt(row["model"], row["sequence"], "does not match its hash")
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


def _since(connection: Connection, model: str, sequence: int) -> tuple[LedgerEntry, ...]:
    query = select(LEDGER).where(LEDGER.c.model == model, LEDGER.c.sequence > sequence).order_by(LEDGER.c.sequence)
    return tuple(_entry(row) for row in connection.execute(query).mappings())


def conflict(model: str, expected: int, happened: Sequence[LedgerEntry]) -> LedgerConflict:
    """The error of an act that was decided on row `expected`, with what `happened` since: the newest rows."""
    told = "; ".join(map(str, happened[-TOLD:]))
    more = f"{len(happened) - TOLD} rows, then " if len(happened) > TOLD else ""
    problem = f"The ledger of {model} has advanced past sequence {expected}, on which this decision was based"
    return LedgerConflict(f"{problem}: {more}{told}" if told else problem, "Nothing was changed. Look at it, and decide again")
