"""Runs that are accepted now and begin later."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "flow_run_controls",
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=True, comment="when it begins; null once it has"),
    )
    op.create_index(
        "ix_flow_run_controls_start",
        "flow_run_controls",
        ["start_at"],
        postgresql_where=sa.text("NOT closed AND start_at IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
