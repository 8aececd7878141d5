"""Steps of migrations that can be given again: MySQL and MariaDB commit each statement that changes the schema by itself, so a
migration that was killed has done some of its steps and noted none."""

from typing import Any

import sqlalchemy as sa
from alembic import op


def create_table(name: str, *columns: sa.Column[Any]) -> None:
    """Create the table unless it is there."""
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *columns)


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Create the index unless it is there."""
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def add_column(table: str, column: sa.Column[Any]) -> None:
    """Add the column unless it is there."""
    if not has_column(table, column.name):
        op.add_column(table, column)


def rename_column(table: str, old: str, new: str) -> None:
    """Rename the column unless it was."""
    if has_column(table, old):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


def has_column(table: str, name: str) -> bool:
    """Whether the table has the column now."""
    return name in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
