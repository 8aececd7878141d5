"""Predictions that are no longer kept one by one, as totals of an hour."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_table
from openmlops.adapters.schema import UtcDateTime, long_text, text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    create_table(
        "inference_hour",
        sa.Column("model", text(255), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hour", UtcDateTime, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("labelled", sa.BigInteger, nullable=False),
        sa.Column("latency", long_text(), nullable=False),
    )
