"""Events say which transaction wrote them: whoever reads all of them as they are committed misses none."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "the transaction that wrote it; null: written before there was this column"
    op.add_column("flow_events", sa.Column("tx", sa.BigInteger(), nullable=True, comment=comment))
    # As a second step: added with its default, every old row would be given the transaction of this migration.
    op.alter_column("flow_events", "tx", server_default=sa.text("pg_current_xact_id()::text::bigint"))
    op.create_index("ix_flow_events_tx", "flow_events", ["tx"], postgresql_where=sa.text("tx IS NOT NULL"))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
