"""The inference log: what was answered, and the labels that join later."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_index, create_table
from openmlops.adapters.schema import UtcDateTime, long_text, serial, text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the three tables."""
    create_table(
        "inference_layout",
        sa.Column("id", text(64), primary_key=True),
        sa.Column("columns", long_text(), nullable=False),
        sa.Column("classes", long_text(), nullable=False),
    )
    create_table(
        "inference",
        sa.Column("sequence", serial(), primary_key=True, autoincrement=True),
        sa.Column("id", text(36), nullable=False, unique=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("model", text(255), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("input_sha256", text(64), nullable=False),
        sa.Column("layout", text(64), sa.ForeignKey("inference_layout.id"), nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sa.Column("latency_ms", sa.Float, nullable=False),
    )
    create_index("inference_window", "inference", ["model", "version", "sequence"])
    create_table(
        "label",
        sa.Column("inference", text(36), sa.ForeignKey("inference.id"), primary_key=True),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
    )
