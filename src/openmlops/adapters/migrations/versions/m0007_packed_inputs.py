"""Where the images of predictions lie in the object store, for those that are packed there."""

import sqlalchemy as sa

from openmlops.adapters.migrations.steps import create_index, create_table
from openmlops.adapters.schema import text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table and its index."""
    create_table(
        "input_place",
        sa.Column("sha256", text(64), primary_key=True),
        sa.Column("pack", text(40), primary_key=True),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    create_index("input_place_pack", "input_place", ["pack"])
