"""How the answers were drawn whose labels a request asked for: every answer of its window, with its probability."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_table
from openmlops.adapters.schema import text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the table."""
    create_table(
        "label_draw",
        sa.Column("inference", text(36), primary_key=True),
        sa.Column("decision", text(36), primary_key=True),
        sa.Column("stratum", text(16), nullable=False),
        sa.Column("at_random", sa.Boolean, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
    )
