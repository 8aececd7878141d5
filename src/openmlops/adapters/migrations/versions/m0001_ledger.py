"""The ledger and its heads."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_table
from openmlops.adapters.schema import long_text, text

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    create_table(
        "ledger",
        sa.Column("model", text(255), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", text(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("champion", sa.Integer),
        sa.Column("at", text(32), nullable=False),
        sa.Column("actor", text(255), nullable=False),
        sa.Column("reasons", long_text(), nullable=False),
        sa.Column("dataset", text(64), nullable=False),
        sa.Column("model_sha256", text(64), nullable=False),
        sa.Column("verdict", long_text()),
        sa.Column("previous", text(64), nullable=False),
        sa.Column("hash", text(64), nullable=False),
    )
    create_table(
        "ledger_head",
        sa.Column("model", text(255), primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("hash", text(64), nullable=False),
    )
