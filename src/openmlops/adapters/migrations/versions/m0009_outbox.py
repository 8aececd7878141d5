"""Messages to people that the webhook has not acknowledged yet."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_table
from openmlops.adapters.schema import UtcDateTime, long_text, serial, text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the table."""
    create_table(
        "outbox",
        sa.Column("sequence", serial(), primary_key=True, autoincrement=True),
        sa.Column("identity", text(100), nullable=False, unique=True),
        sa.Column("model", text(255), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("content", long_text(), nullable=False),
        sa.Column("due", UtcDateTime, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("problem", long_text(), nullable=False),
    )
