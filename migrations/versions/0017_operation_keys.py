"""An operation that is asked for again with the same key is the same one."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "the idempotency key; it may be used anew after a day"
    op.add_column("flow_operations", sa.Column("request_key", sa.Text(), nullable=True, comment=comment))
    op.add_column("flow_operations", sa.Column("request_hash", sa.Text(), nullable=True))
    op.create_index(
        "ix_flow_operations_request_key",
        "flow_operations",
        ["request_key"],
        unique=True,
        postgresql_where=sa.text("request_key IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
