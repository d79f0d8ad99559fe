"""Alembic's way in: runs the versions on the connection that `pipeline.database` hands over."""

from alembic import context

from pipeline.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
