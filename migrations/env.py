"""Alembic environment. The connection comes from `orchestrator.ledger.migrate`; offline it prints SQL."""

from alembic import context

from orchestrator.ledger.schema import metadata

connection = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()
