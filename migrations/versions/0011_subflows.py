"""A run that a step of another run started is found by it, and its end is told to it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "false: a step of the parent waits for its end, and was not told of it"
    op.add_column(
        "flow_runs",
        sa.Column("parent_told", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment=comment),
    )
    comment = "of a call of a flow: the run that does it, or did it last"
    op.add_column("flow_steps", sa.Column("child_run_id", sa.Uuid(), nullable=True, comment=comment))
    op.create_index(
        "ix_flow_runs_parent",
        "flow_runs",
        ["parent_run_id", "id"],
        postgresql_where=sa.text("parent_run_id IS NOT NULL"),
    )
    op.create_index("ix_flow_runs_untold", "flow_runs", ["ended_at", "id"], postgresql_where=sa.text("NOT parent_told"))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
