"""What Alembic executes: the steps, on the connection and in the transaction that `database.connect` hands over."""

from alembic import context

from openmlops.adapters.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
