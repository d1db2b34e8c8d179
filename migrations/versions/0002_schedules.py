"""Schedules: definitions and cursors, ticks, backfills; the time a run was scheduled for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OUTCOMES = "'cancelled', 'failed', 'missed', 'pending', 'queued', 'skipped', 'started'"


def _when(name: str, **options: object) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), **{"nullable": True, **options})  # type: ignore[arg-type]


def _counter(name: str, comment: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment)


def upgrade() -> None:
    op.execute(f"CREATE DOMAIN flow_tick_outcome AS text CONSTRAINT ck_flow_tick_outcome CHECK (VALUE IN ({OUTCOMES}))")
    op.add_column("flow_runs", _when("scheduled_for", comment="the time its schedule meant, however late it started"))
    _states()
    _ticks()
    _backfills()


def _states() -> None:
    table = "flow_schedule_states"
    op.execute(f"DELETE FROM {table}")  # no release wrote any
    for column in (
        _when("due_at", comment="next_tick_at and its jitter"),
        sa.Column(
            "active",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="the current manifest has it",
        ),
        sa.Column("definition", postgresql.JSON(), nullable=False, comment="the trigger, as the manifest has it"),
        _when("overridden_at"),
        sa.Column("overridden_by", sa.Text(), nullable=True),
        _counter("version", "the transaction that changed rule, pause or activity last"),
        _counter("fired"),
        _counter("missed"),
        _counter("skipped"),
        _counter("doubles", "ticks that were decided already"),
        sa.Column("error", postgresql.JSON(), nullable=True, comment="why the last tick failed"),
        _when("error_at"),
    ):
        op.add_column(table, column)
    op.execute(f"ALTER TABLE {table} SET (fillfactor = 80)")
    op.create_index(
        "ix_flow_schedule_states_due",
        table,
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("active AND paused_at IS NULL AND due_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_flow_schedule_states_version"), table, ["version"], unique=False)


def _ticks() -> None:
    table = "flow_schedule_ticks"
    op.create_table(
        table,
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("trigger_key", sa.Text(), nullable=False),
        _when("scheduled_at", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="cron, manual or backfill"),
        sa.Column("outcome", postgresql.DOMAIN("flow_tick_outcome", sa.Text(), create_type=False), nullable=False),
        sa.Column(
            "count", sa.Integer(), server_default="1", nullable=False, comment="missed ticks that end with this one"
        ),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("waits_for", sa.Uuid(), nullable=True, comment="the open run that a queued tick comes after"),
        sa.Column("backfill_id", sa.Uuid(), nullable=True),
        _when("decided_at", server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("lag", sa.Interval(), nullable=True, comment="due to decided; null where nothing was due"),
        sa.Column("by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("flow", "trigger_key", "scheduled_at", name=op.f("pk_flow_schedule_ticks")),
    )
    op.create_index(op.f("ix_flow_schedule_ticks_decided_at"), table, ["decided_at"], unique=False)
    key = ["flow", "trigger_key", "scheduled_at"]
    for name, columns, where in (
        (op.f("ix_flow_schedule_ticks_run_id"), ["run_id"], "run_id IS NOT NULL"),
        ("ix_flow_schedule_ticks_runs", key, "run_id IS NOT NULL AND backfill_id IS NULL"),
        ("ix_flow_schedule_ticks_queued", key, "outcome = 'queued'"),
        ("ix_flow_schedule_ticks_pending", ["backfill_id", "scheduled_at"], "outcome = 'pending'"),
    ):
        op.create_index(name, table, columns, unique=False, postgresql_where=sa.text(where))


def _backfills() -> None:
    table = "flow_schedule_backfills"
    op.create_table(
        table,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("trigger_key", sa.Text(), nullable=False),
        _when("since", nullable=False),
        _when("until", nullable=False),
        sa.Column("max_parallel", sa.Integer(), nullable=False),
        sa.Column("reverse", sa.Boolean(), nullable=False),
        sa.Column(
            "running",
            postgresql.ARRAY(sa.Uuid()),
            server_default="{}",
            nullable=False,
            comment="its runs that were open when seen last",
        ),
        sa.Column("requested_by", sa.Text(), nullable=False),
        _when("created_at", server_default=sa.text("flow_now()"), nullable=False),
        _when("ended_at"),
        sa.Column("cancelled_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_schedule_backfills")),
    )
    op.create_index(
        "ix_flow_schedule_backfills_open", table, ["id"], unique=False, postgresql_where=sa.text("ended_at IS NULL")
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
