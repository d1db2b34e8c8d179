"""Schedules and their ticks."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Interval, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from orchestrator.ledger.schema.base import HOT, NOW, TICK_OUTCOME, metadata, when

flow_schedule_states = Table(
    "flow_schedule_states",
    metadata,
    Column("flow", Text, ForeignKey("flow_definitions.name"), primary_key=True),
    Column("trigger_key", Text, primary_key=True),
    Column("expression", Text, comment="override of the manifest's"),
    Column("zone", Text),
    when("paused_at"),
    Column("paused_by", Text),
    Column("pause_reason", Text),
    when("last_tick_at"),
    when("next_tick_at"),
    when("due_at", comment="next_tick_at and its jitter"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="the current manifest has it"),
    Column("definition", JSON, nullable=False, comment="the trigger, as the manifest has it"),
    when("overridden_at"),
    Column("overridden_by", Text),
    Column(
        "version",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="the transaction that changed rule, pause or activity last",
    ),
    Column("fired", BigInteger, nullable=False, server_default="0"),
    Column("missed", BigInteger, nullable=False, server_default="0"),
    Column("skipped", BigInteger, nullable=False, server_default="0"),
    Column("doubles", BigInteger, nullable=False, server_default="0", comment="ticks that were decided already"),
    Column("error", JSON, comment="why the last tick failed"),
    when("error_at"),
    Index(
        "ix_flow_schedule_states_due",
        "due_at",
        postgresql_where=text("active AND paused_at IS NULL AND due_at IS NOT NULL"),
    ),
    Index(None, "version"),
    **HOT,
)

flow_schedule_ticks = Table(
    "flow_schedule_ticks",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("trigger_key", Text, primary_key=True),
    when("scheduled_at", primary_key=True),
    Column("kind", Text, nullable=False, comment="cron, manual or backfill"),
    Column("outcome", TICK_OUTCOME, nullable=False),
    Column("count", Integer, nullable=False, server_default="1", comment="missed ticks that end with this one"),
    Column("run_id", Uuid),
    Column("waits_for", Uuid, comment="the open run that a queued tick comes after"),
    Column("backfill_id", Uuid),
    when("decided_at", nullable=False, server_default=NOW),
    Column("lag", Interval, comment="due to decided; null where nothing was due"),
    Column("by", Text, nullable=False),
    Index(None, "decided_at"),
    Index(None, "run_id", postgresql_where=text("run_id IS NOT NULL")),
    Index(
        "ix_flow_schedule_ticks_runs",
        "flow",
        "trigger_key",
        "scheduled_at",
        postgresql_where=text("run_id IS NOT NULL AND backfill_id IS NULL"),
    ),
    Index(
        "ix_flow_schedule_ticks_queued",
        "flow",
        "trigger_key",
        "scheduled_at",
        postgresql_where=text("outcome = 'queued'"),
    ),
    Index(
        "ix_flow_schedule_ticks_pending",
        "backfill_id",
        "scheduled_at",
        postgresql_where=text("outcome = 'pending'"),
    ),
)

flow_schedule_backfills = Table(
    "flow_schedule_backfills",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("flow", Text, nullable=False),
    Column("trigger_key", Text, nullable=False),
    when("since", nullable=False),
    when("until", nullable=False),
    Column("max_parallel", Integer, nullable=False),
    Column("reverse", Boolean, nullable=False),
    Column(
        "running", ARRAY(Uuid), nullable=False, server_default="{}", comment="its runs that were open when seen last"
    ),
    Column("requested_by", Text, nullable=False),
    when("created_at", nullable=False, server_default=NOW),
    when("ended_at"),
    Column("cancelled_by", Text),
    Index("ix_flow_schedule_backfills_open", "id", postgresql_where=text("ended_at IS NULL")),
)
