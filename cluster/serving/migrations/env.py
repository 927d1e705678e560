"""Alembic's entry: migrates over the connection (and in the transaction) that `Database.migrate` gives."""

from alembic import context

from cluster.serving.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
context.run_migrations()
