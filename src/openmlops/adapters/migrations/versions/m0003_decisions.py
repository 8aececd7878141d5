"""What was decided about a model, which labels a data version has used, and who may act."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_index, create_table
from openmlops.adapters.schema import UtcDateTime, long_text, serial, text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the three tables."""
    create_table(
        "label_use",
        sa.Column("inference", text(36), sa.ForeignKey("inference.id"), primary_key=True),
        sa.Column("dataset", text(64), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
    create_table(
        "decision",
        sa.Column("sequence", serial(), primary_key=True, autoincrement=True),
        sa.Column("id", text(36), nullable=False, unique=True),
        sa.Column("model", text(255), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("action", text(16), nullable=False),
        sa.Column("record", long_text(), nullable=False),
        sa.Column("outcome", long_text()),
    )
    create_index("decision_model", "decision", ["model", "sequence"])
    create_table(
        "lease",
        sa.Column("name", text(255), primary_key=True),
        sa.Column("holder", text(255), nullable=False),
        sa.Column("term", sa.Integer, nullable=False),
        sa.Column("expires", UtcDateTime, nullable=False),
    )
