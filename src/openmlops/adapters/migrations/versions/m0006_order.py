"""What a decision was based on, beside it, and how far what is done once has come."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import add_column, create_table
from openmlops.adapters.schema import long_text, text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column and the table."""
    add_column("decision", sa.Column("basis", long_text()))
    create_table(
        "progress",
        sa.Column("name", text(255), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
