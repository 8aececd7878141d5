"""What the prediction server may do in the database of a server, if it has a role of its own: append predictions, labels and
requests, withdraw what it did not answer, and read the rest. It cannot change the ledger, nor what was decided or labelled.

The owner of the tables grants it (on MySQL and MariaDB an administrator), again after each upgrade, for the new tables.
"""

import re

from sqlalchemy import Engine

from openmlops.adapters.schema import (
    DECISION,
    INFERENCE,
    INFERENCE_LAYOUT,
    INPUT_PLACE,
    LABEL,
    LABEL_DRAW,
    METADATA,
    VERSION_TABLE,
)
from openmlops.errors import SettingsError

MAY = {
    INFERENCE.name: ("INSERT", "DELETE"),  # withdrawn, if nobody waits for the answer any more
    INFERENCE_LAYOUT.name: ("INSERT", "DELETE"),  # the probe that finds out whether a full database has room again
    INPUT_PLACE.name: ("INSERT", "DELETE"),
    LABEL.name: ("INSERT",),
    LABEL_DRAW.name: ("INSERT",),  # of a request that a person makes on the page
    DECISION.name: ("INSERT",),  # what `POST /trigger` asks for
}
"""table -> what the server does there besides reading"""

_ROLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,30}")


def grant(engine: Engine, role: str) -> tuple[str, ...]:
    """Give the role these rights, and take all others on our tables from it. Returns the statements, all of which can be given
    again. Raises SettingsError for a name that is none, or a database that is a file; ServiceUnavailable."""
    if not _ROLE.fullmatch(role):
        raise SettingsError(f"'{role[:80]}' is not a role's name", "Use up to 31 letters, digits and underscores")
    if engine.dialect.name == "sqlite":
        raise SettingsError("DATABASE_URL is a file, which knows no roles", "Its owner alone may read it")
    statements = _of_postgresql(role) if engine.dialect.name == "postgresql" else _of_mysql(role)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return statements


def _of_postgresql(role: str) -> tuple[str, ...]:
    tables = ", ".join((*METADATA.tables, VERSION_TABLE))
    sequences = ", ".join(f"{name}_sequence_seq" for name in (INFERENCE.name, DECISION.name))
    return (
        f"REVOKE ALL ON {tables} FROM {role}",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT SELECT ON {tables} TO {role}",
        f"GRANT USAGE ON SEQUENCE {sequences} TO {role}",
        *(f"GRANT {', '.join(rights)} ON {table} TO {role}" for table, rights in MAY.items()),
    )


def _of_mysql(role: str) -> tuple[str, ...]:
    return (
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{role}'@'%%'",
        *(f"GRANT SELECT ON {table} TO '{role}'@'%%'" for table in (*METADATA.tables, VERSION_TABLE)),
        *(f"GRANT {', '.join(rights)} ON {table} TO '{role}'@'%%'" for table, rights in MAY.items()),
    )
