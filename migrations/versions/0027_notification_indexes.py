"""What is under way, and what is dead, is found without reading the rest of what subscriptions are told."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_flow_notifications_claimed",
        "flow_notifications",
        ["subscription_id"],
        postgresql_where=sa.text("claimed_until IS NOT NULL"),
    )
    op.create_index(
        "ix_flow_notifications_dead",
        "flow_notifications",
        ["subscription_id", "id"],
        postgresql_where=sa.text("state = 'dead'"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
