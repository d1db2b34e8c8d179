"""The ledger."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = {
    "flow_run_status": "'cancelled', 'failed', 'pending', 'running', 'succeeded', 'timed_out'",
    "flow_run_halt": "'cancelled', 'timed_out'",
    "flow_step_status": (
        "'blocked', 'cancelled', 'compensated', 'failed', 'ready', 'running', 'skipped', 'succeeded', 'waiting'"
    ),
    "flow_attempt_status": "'cancelled', 'crashed', 'failed', 'running', 'succeeded', 'timed_out'",
}


def _domain(name: str) -> postgresql.DOMAIN:
    return postgresql.DOMAIN(name, sa.Text(), create_type=False)


def upgrade() -> None:
    for name, listed in STATES.items():
        op.execute(f"CREATE DOMAIN {name} AS text CONSTRAINT ck_{name} CHECK (VALUE IN ({listed}))")
    op.execute(
        """CREATE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
AS 'SELECT clock_timestamp()'"""
    )
    op.execute(
        """CREATE FUNCTION flow_refuse(reason text) RETURNS integer LANGUAGE plpgsql
AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''FLOW1'', MESSAGE = reason; END'"""
    )
    op.execute(
        """CREATE FUNCTION flow_parked(run uuid) RETURNS boolean LANGUAGE plpgsql STABLE
AS 'BEGIN
  RETURN EXISTS (SELECT FROM flow_steps WHERE run_id = run AND status = ''waiting'')
     AND NOT EXISTS (SELECT FROM flow_steps
                      WHERE run_id = run AND (queued OR status = ''running'' AND type IS NOT NULL));
END'"""
    )
    op.create_table(
        "flow_definition_versions",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_flow_definition_versions")),
    )
    op.create_index(op.f("ix_flow_definition_versions_flow"), "flow_definition_versions", ["flow"], unique=False)
    op.create_table(
        "flow_definitions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("manifest_hash", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("switched_by", sa.Text(), nullable=True, comment="who enabled or disabled it last"),
        sa.Column("switch_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_flow_definitions")),
    )
    op.create_table(
        "flow_events",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True, cache=1), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("step_key", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("facts", postgresql.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "id", name=op.f("pk_flow_events")),
    )
    op.create_table(
        "flow_idempotency_keys",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("flow", "key", name=op.f("pk_flow_idempotency_keys")),
    )
    op.create_index(op.f("ix_flow_idempotency_keys_expires_at"), "flow_idempotency_keys", ["expires_at"], unique=False)
    op.create_table(
        "flow_outputs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("output", postgresql.JSON(), nullable=True, comment="null when the payload is offloaded"),
        sa.Column("store", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_key", name=op.f("pk_flow_outputs")),
    )
    op.create_table(
        "flow_run_controls",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timed_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_by", sa.Text(), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column(
            "grace_ends_at", sa.DateTime(timezone=True), nullable=True, comment="running handlers are ended after this"
        ),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("closed", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="the run ended"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_flow_run_controls")),
    )
    op.create_index(
        "ix_flow_run_controls_deadline",
        "flow_run_controls",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("NOT closed AND deadline IS NOT NULL"),
    )
    op.create_table(
        "flow_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("manifest_hash", sa.Text(), nullable=False),
        sa.Column("status", _domain("flow_run_status"), server_default="pending", nullable=False),
        sa.Column(
            "halt",
            _domain("flow_run_halt"),
            nullable=True,
            comment="set once by a cancel or the deadline: no claim is given after that commit",
        ),
        sa.Column("trigger_type", sa.Text(), server_default="manual", nullable=False),
        sa.Column("trigger_key", sa.Text(), nullable=True),
        sa.Column("trigger_body", postgresql.JSON(), nullable=False),
        sa.Column("trigger_headers", postgresql.JSON(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("parent_run_id", sa.Uuid(), nullable=True),
        sa.Column("parent_step_key", sa.Text(), nullable=True),
        sa.Column("source_run_id", sa.Uuid(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "sinks_open",
            sa.Integer(),
            nullable=False,
            comment="open steps that nothing waits for: 0 ends the run",
        ),
        sa.Column(
            "failures", sa.Integer(), server_default="0", nullable=False, comment="failed steps that nothing handles"
        ),
        sa.Column(
            "controlled",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="flow_run_controls has its row",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", postgresql.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_runs")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_flow_runs_ending", "flow_runs", [sa.literal_column("substring(uuid_send(id), 15)")], unique=False
    )
    op.create_index(op.f("ix_flow_runs_flow_id"), "flow_runs", ["flow", "id"], unique=False)
    op.create_index(
        "ix_flow_runs_open", "flow_runs", ["id"], unique=False, postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index(
        "ix_flow_runs_tags",
        "flow_runs",
        ["tags"],
        unique=False,
        postgresql_using="gin",
        postgresql_where=sa.text("tags <> '{}'"),
    )
    op.create_index(
        "ix_flow_runs_unhappy",
        "flow_runs",
        ["id"],
        unique=False,
        postgresql_where=sa.text("halt IS NOT NULL OR failures > 0"),
    )
    op.create_table(
        "flow_signal_waiters",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payload", postgresql.JSON(), nullable=True),
        sa.Column("delivered_by", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_key", name=op.f("pk_flow_signal_waiters")),
    )
    op.create_table(
        "flow_step_attempts",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="the claim's fence"),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("status", _domain("flow_attempt_status"), server_default="running", nullable=False),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column(
            "inputs",
            postgresql.JSON(),
            nullable=True,
            comment="as resolved; null above 64 KiB: then the references say where they came from",
        ),
        sa.Column("queue_wait", sa.Interval(), nullable=True, comment="ready to claimed"),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step_key", "attempt", name=op.f("pk_flow_step_attempts")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "flow_step_claims",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column(
            "owner", sa.Text(), nullable=False, comment="host/pid/random of the worker process, then the pool child"
        ),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="the fence: rises with every claim"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="null: not live"),
        sa.Column("stop_at", sa.DateTime(timezone=True), nullable=True, comment="when the step's timeout ends it"),
        sa.Column("progress", postgresql.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step_key", name=op.f("pk_flow_step_claims")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_flow_step_claims_live",
        "flow_step_claims",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "flow_step_dispatches",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("dispatch_no", sa.Integer(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column(
            "published_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last time a message for it was accepted by the broker",
        ),
        sa.Column("publish_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "suppressed",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="messages that found nothing to claim",
        ),
        sa.PrimaryKeyConstraint("run_id", "step_key", "dispatch_no", name=op.f("pk_flow_step_dispatches")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_table(
        "flow_steps",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(collation="C"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="order in the manifest, for people"),
        sa.Column("type", sa.Text(), nullable=True, comment="null for a loop"),
        sa.Column("task", sa.Text(), nullable=True, comment="<flow>.<type>: the Celery task that handles it"),
        sa.Column("loop_key", sa.Text(collation="C"), nullable=True, comment="the loop this is a child of"),
        sa.Column("loop_index", sa.Integer(), nullable=True),
        sa.Column("item", postgresql.JSON(), nullable=True, comment="what @item() is for this child"),
        sa.Column("status", _domain("flow_step_status"), server_default="blocked", nullable=False),
        sa.Column("queued", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="status is 'ready'"),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="why it was skipped, failed without an attempt, or cancelled"
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False, comment="number of the last attempt"),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="attempts that count against `retries`",
        ),
        sa.Column(
            "crashes", sa.Integer(), server_default="0", nullable=False, comment="attempts lost with their worker"
        ),
        sa.Column(
            "deps_open", sa.Integer(), server_default="0", nullable=False, comment="predecessors that have not ended"
        ),
        sa.Column(
            "deps_unmet",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="predecessors that ended otherwise than asked",
        ),
        sa.Column("dispatch_no", sa.Integer(), server_default="0", nullable=False, comment="0: never dispatched"),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("timeout", sa.Interval(), nullable=True),
        sa.Column("queue_timeout", sa.Interval(), nullable=True),
        sa.Column(
            "needs",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="outputs its inputs name; '@' is the trigger",
        ),
        sa.Column("children_open", sa.Integer(), nullable=True, comment="a loop's children that have not ended"),
        sa.Column("children_failed", sa.Integer(), nullable=True),
        sa.Column(
            "children_next",
            sa.Integer(),
            nullable=True,
            comment="index of the next child to let in, when the loop has a window",
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queue_deadline", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "step_key", name=op.f("pk_flow_steps")),
        postgresql_with={"fillfactor": "80"},
    )
    op.create_index(
        "ix_flow_steps_due", "flow_steps", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(
        "ix_flow_steps_queue_deadline",
        "flow_steps",
        ["queue_deadline"],
        unique=False,
        postgresql_where=sa.text("queue_deadline IS NOT NULL"),
    )
    op.create_index(
        "ix_flow_steps_ready",
        "flow_steps",
        ["queue", "priority", "ready_at"],
        unique=False,
        postgresql_where=sa.text("queued"),
    )
    op.create_table(
        "flow_workers",
        sa.Column("id", sa.Text(), nullable=False, comment="host/pid/random of one process start"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("prefetch", sa.Integer(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("handlers", postgresql.ARRAY(sa.Text()), nullable=False, comment="task names it can run"),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("flow_now()"), nullable=False),
        sa.Column(
            "consumed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last time its probe came back through the broker",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_workers")),
    )
    op.create_table(
        "flow_schedule_states",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("trigger_key", sa.Text(), nullable=False),
        sa.Column("expression", sa.Text(), nullable=True, comment="override of the manifest's"),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("last_tick_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_tick_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["flow"], ["flow_definitions.name"], name=op.f("fk_flow_schedule_states_flow")),
        sa.PrimaryKeyConstraint("flow", "trigger_key", name=op.f("pk_flow_schedule_states")),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
