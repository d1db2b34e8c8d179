"""Operations on many runs, and what became of each run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")
STATES = {
    "flow_operation_state": "'cancelled', 'completed', 'paused', 'running'",
    "flow_operation_outcome": "'done', 'failed', 'left_out', 'pending'",
}


def _domain(name: str) -> postgresql.DOMAIN:
    return postgresql.DOMAIN(name, sa.Text(), create_type=False)


def upgrade() -> None:
    for name, listed in STATES.items():
        op.execute(f"CREATE DOMAIN {name} AS text CONSTRAINT ck_{name} CHECK (VALUE IN ({listed}))")
    op.create_table(
        "flow_operations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False, comment="cancel, retry or delete"),
        sa.Column(
            "wanted",
            postgresql.JSON(),
            nullable=False,
            comment="which runs were asked for: a filter, or how many ids",
        ),
        sa.Column("options", postgresql.JSON(), nullable=False, comment="of a retry: force, fresh"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("state", _domain("flow_operation_state"), server_default="running", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False, comment="its runs, listed when it was made"),
        sa.Column("foreseen", sa.Integer(), nullable=True, comment="how many the dry run had said"),
        sa.Column(
            "left_out",
            postgresql.JSON(),
            nullable=False,
            comment="those not listed that were asked for, too: counts by reason",
        ),
        sa.Column("counts", postgresql.JSON(), nullable=True, comment="outcomes, once it has ended"),
        sa.Column("changed_by", sa.Text(), nullable=True, comment="who paused, resumed or cancelled it last"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_operations")),
    )
    op.create_index(
        "ix_flow_operations_running", "flow_operations", ["id"], postgresql_where=sa.text("state = 'running'")
    )
    op.create_index(
        "ix_flow_operations_ended", "flow_operations", ["ended_at"], postgresql_where=sa.text("ended_at IS NOT NULL")
    )
    op.create_table(
        "flow_operation_runs",
        sa.Column("operation_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", _domain("flow_operation_outcome"), server_default="pending", nullable=False),
        sa.Column("detail", sa.Text(), nullable=True, comment="why it was left out, or the last error"),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False, comment="those that ended with an error"),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False, comment="not before"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True, comment="when it got its outcome"),
        sa.PrimaryKeyConstraint("operation_id", "run_id", name=op.f("pk_flow_operation_runs")),
    )
    op.create_index(
        "ix_flow_operation_runs_pending",
        "flow_operation_runs",
        ["operation_id", "due_at", "run_id"],
        postgresql_where=sa.text("outcome = 'pending'"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
