"""What Alembic runs for each command; the connection comes from `receiver.store.schema_version`."""

from alembic import context

from receiver.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
