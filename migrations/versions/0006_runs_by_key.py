"""Runs are found by their idempotency key, also after the key expired."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_flow_runs_key",
        "flow_runs",
        ["trigger_key"],
        postgresql_where=sa.text("trigger_key IS NOT NULL AND scheduled_for IS NULL"),
        if_not_exists=True,
    )
