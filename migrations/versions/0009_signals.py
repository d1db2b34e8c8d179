"""Signals: what was sent to a run, what waits for one, and who was asked."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WAITER = (
    sa.Column("key", sa.Text(), server_default="", nullable=False),
    sa.Column("kind", sa.Text(), server_default="signal", nullable=False, comment="signal or approval"),
    sa.Column("signal_id", sa.Text(), nullable=True, comment="of the signal that it took"),
    sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, comment="when it ceased to wait"),
    sa.Column("title", sa.Text(), nullable=True, comment="of an approval"),
    sa.Column("assignee", sa.Text(), nullable=True, comment="who is asked"),
    sa.Column("shown", sa.JSON(), nullable=True, comment="what they are shown"),
)


def upgrade() -> None:
    for column in WAITER:
        op.add_column("flow_signal_waiters", column)
    op.create_index(
        "ix_flow_signal_waiters_open",
        "flow_signal_waiters",
        ["created_at", "run_id", "step_key"],
        postgresql_where=sa.text("kind = 'approval' AND closed_at IS NULL"),
    )
    op.create_table(
        "flow_signals",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="the order they came in"),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of key and payload"),
        sa.Column("by", sa.Text(), nullable=True),
        sa.Column("kept", sa.Boolean(), nullable=False, comment="whether nothing waited for it when it came"),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("consumed_by", sa.Text(collation="C"), nullable=True, comment="the step that took it"),
        sa.Column("consumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "name", "id", name=op.f("pk_flow_signals")),
    )
    op.create_index(
        "ix_flow_signals_kept",
        "flow_signals",
        ["run_id", "name", "key", "seq"],
        postgresql_where=sa.text("consumed_at IS NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
