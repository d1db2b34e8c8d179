"""Notifications and deliveries are found by the ends of their ids, and those of one subscription without the others."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_ENDING = "substring(uuid_send(id), 15)"


def upgrade() -> None:
    op.create_index("ix_flow_notifications_subscription", "flow_notifications", ["subscription_id", "id"])
    op.create_index("ix_flow_notifications_ending", "flow_notifications", [sa.text(_ENDING)])
    op.create_index("ix_flow_webhook_deliveries_ending", "flow_webhook_deliveries", [sa.text(_ENDING)])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
