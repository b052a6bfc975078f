"""Runs migrations on the connection, and in the transaction, that `server.store.schema` opened."""

from alembic import context

from server.store import service_tables  # noqa: F401 - its tables are part of the metadata
from server.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
