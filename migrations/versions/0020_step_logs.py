"""What handlers logged and printed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")


def upgrade() -> None:
    first = "number of its first line in the attempt, from 1"
    lines = "a batch of lines: time, level, text of each"
    op.create_table(
        "flow_step_logs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False, comment=first),
        sa.Column("lines", postgresql.JSON(), nullable=False, comment=lines),
        sa.Column("written_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_key", "attempt", "first", name=op.f("pk_flow_step_logs")),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
