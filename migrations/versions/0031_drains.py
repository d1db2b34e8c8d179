"""Workers that somebody told to stop by way of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "somebody told it to stop: it does when it next looks"
    op.add_column("flow_workers", sa.Column("drain_at", sa.DateTime(timezone=True), nullable=True, comment=comment))
    op.add_column("flow_workers", sa.Column("drain_by", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
