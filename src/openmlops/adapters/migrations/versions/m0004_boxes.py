"""Answers and labels that are boxes: an answer is what its task packs, a label is JSON."""

import sqlalchemy as sa
from alembic import op

from openmlops.adapters.migrations.steps import add_column, has_column, rename_column
from openmlops.adapters.schema import long_text

revision = "0004"
down_revision = "0003"
EXPANDS = False
"""it renames a column and drops one: servers of before fail"""


def upgrade() -> None:
    """Rename the column of the answers, and turn class indexes into JSON."""
    rename_column("inference", "probabilities", "answer")
    if not has_column("label", "label"):  # all of the rest was done
        return
    add_column("label", sa.Column("truth", long_text()))
    text = "CHAR" if op.get_bind().dialect.name in ("mysql", "mariadb") else "TEXT"
    op.execute(f"UPDATE label SET truth = CAST(label AS {text})")
    with op.batch_alter_table("label") as table:
        table.alter_column("truth", existing_type=long_text(), nullable=False)
        table.drop_column("label")
