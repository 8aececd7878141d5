"""The tables of our database, in types that behave alike in PostgreSQL, MySQL, MariaDB and SQLite.

What is here: the newest schema, for queries. What is not: migrations of older databases (`migrations/`, one file per step). A
change here needs a new migration, and `HEAD` set to it.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

HEAD = "0009"
"""revision of the newest migration, to which `database.connect` migrates every database"""

VERSION_TABLE = "openmlops_version"
"""Alembic's table under our own name: MLflow and ZenML use `alembic_version` in their databases"""


_BY_BYTE = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}


def _of_mysql(dialect: Any, name: str, **arguments: Any) -> TypeEngine | None:
    """A type of MySQL's and MariaDB's own, imported where one of them is used; None elsewhere."""
    if dialect.name not in ("mysql", "mariadb"):
        return None
    from sqlalchemy.dialects import mysql

    return dialect.type_descriptor(getattr(mysql, name)(**arguments))  # type: ignore[no-any-return]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC to the microsecond and read back in UTC. A naive one raises ValueError."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> TypeEngine:
        return _of_mysql(dialect, "DATETIME", fsp=6) or dialect.type_descriptor(DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give an aware datetime")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class text(TypeDecorator[str]):
    """A bounded string with binary collation everywhere (MySQL's default is case-insensitive)."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> TypeEngine:
        length = self.impl_instance.length  # type: ignore[attr-defined]
        return _of_mysql(dialect, "VARCHAR", length=length, **_BY_BYTE) or dialect.type_descriptor(String(length))


class long_text(TypeDecorator[str]):
    """JSON as text, up to 16 MB (MySQL's default limit is 64 KB)."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> TypeEngine:
        return _of_mysql(dialect, "MEDIUMTEXT", **_BY_BYTE) or dialect.type_descriptor(Text())


def serial() -> BigInteger:
    """An auto-increment number (SQLite supports that only for a plain INTEGER)."""
    return BigInteger().with_variant(Integer, "sqlite")


METADATA = MetaData()

LEDGER = Table(
    "ledger",
    METADATA,
    Column("model", text(255), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", text(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("champion", Integer),
    Column("at", text(32), nullable=False),  # ISO 8601 in UTC, as text: the hash covers every byte of it
    Column("actor", text(255), nullable=False),
    Column("reasons", long_text(), nullable=False),  # JSON, a list of sentences
    Column("dataset", text(64), nullable=False),
    Column("model_sha256", text(64), nullable=False),
    Column("verdict", long_text()),  # JSON, a Verdict
    Column("previous", text(64), nullable=False),
    Column("hash", text(64), nullable=False),
)

LEDGER_HEAD = Table(
    "ledger_head",
    METADATA,
    Column("model", text(255), primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("hash", text(64), nullable=False),
)

INFERENCE_LAYOUT = Table(
    "inference_layout",
    METADATA,
    Column("id", text(64), primary_key=True),  # SHA-256 of the other two
    Column("columns", long_text(), nullable=False),  # JSON, names of the features in their order
    Column("classes", long_text(), nullable=False),  # JSON, names of the classes in their order
)

INFERENCE = Table(
    "inference",
    METADATA,
    Column("sequence", serial(), primary_key=True, autoincrement=True),
    Column("id", text(36), nullable=False, unique=True),
    Column("at", UtcDateTime, nullable=False),
    Column("model", text(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("input_sha256", text(64), nullable=False),
    Column("layout", text(64), ForeignKey("inference_layout.id"), nullable=False),
    Column("features", LargeBinary, nullable=False),  # float32, little-endian, one per column of the layout
    Column("answer", LargeBinary, nullable=False),  # float32, little-endian, as the task packs it
    Column("latency_ms", Float, nullable=False),  # from the request's arrival until the prediction was passed to the log
    Index("inference_window", "model", "version", "sequence"),
)

INPUT_PLACE = Table(
    "input_place",
    METADATA,
    Column("sha256", text(64), primary_key=True),
    Column("pack", text(40), primary_key=True),  # names are in the order of time
    Column("start", BigInteger, nullable=False),  # in bytes
    Column("size", BigInteger, nullable=False),
    Index("input_place_pack", "pack"),
)

LABEL = Table(
    "label",
    METADATA,
    Column("inference", text(36), ForeignKey("inference.id"), primary_key=True),
    Column("truth", long_text(), nullable=False),  # JSON: a class index, or boxes
    Column("at", UtcDateTime, nullable=False),
)

LABEL_USE = Table(
    "label_use",
    METADATA,
    Column("inference", text(36), ForeignKey("inference.id"), primary_key=True),
    Column("dataset", text(64), nullable=False),  # fingerprint of the first data version that contains its image
    Column("at", UtcDateTime, nullable=False),
)

LABEL_DRAW = Table(
    "label_draw",
    METADATA,
    Column("inference", text(36), primary_key=True),
    Column("decision", text(36), primary_key=True),  # the request in whose draw the answer took part
    Column("stratum", text(16), nullable=False),  # known, uncertain or rest
    Column("at_random", Boolean, nullable=False),  # whether it is in the random sample of the request
    Column("probability", Float, nullable=False),  # that its label was asked for
)

INFERENCE_HOUR = Table(
    "inference_hour",
    METADATA,
    Column("model", text(255), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("hour", UtcDateTime, primary_key=True),  # its beginning
    Column("n", BigInteger, nullable=False),  # predictions of this hour that are no longer in `inference`
    Column("labelled", BigInteger, nullable=False),  # those of them that had a label
    Column("latency", long_text(), nullable=False),  # JSON: bucket of latency (`inference_hours`) -> number of predictions
)

DECISION = Table(
    "decision",
    METADATA,
    Column("sequence", serial(), primary_key=True, autoincrement=True),
    Column("id", text(36), nullable=False, unique=True),
    Column("model", text(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("action", text(16), nullable=False),
    Column("record", long_text(), nullable=False),  # JSON, a DecisionRecord without its outcome
    Column("outcome", long_text()),  # JSON, an Outcome
    Column("basis", long_text()),  # JSON, a Basis; none in decisions of earlier releases
    Index("decision_model", "model", "sequence"),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("sequence", serial(), primary_key=True, autoincrement=True),
    Column("identity", text(100), nullable=False, unique=True),
    Column("model", text(255), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("content", long_text(), nullable=False),  # JSON, a Notification
    Column("due", UtcDateTime, nullable=False),  # when it may be sent again
    Column("attempts", Integer, nullable=False),
    Column("problem", long_text(), nullable=False),  # why the last attempt failed
)

LEASE = Table(
    "lease",
    METADATA,
    Column("name", text(255), primary_key=True),
    Column("holder", text(255), nullable=False),
    Column("term", Integer, nullable=False),  # incremented each time the lease changes hands
    Column("expires", UtcDateTime, nullable=False),
)

PROGRESS = Table(
    "progress",
    METADATA,
    Column("name", text(255), primary_key=True),
    Column("position", BigInteger, nullable=False),  # a sequence number: all up to it is done
)
