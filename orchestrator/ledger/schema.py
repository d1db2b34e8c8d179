"""The ledger's tables as SQLAlchemy metadata; `migrations/` builds the same schema (a test compares them).

Rules held here:

- Keys of the big tables begin with the run id (UUIDv7), so they can be partitioned by run id later; they carry no
  foreign keys for the same reason, and because one lookup per insert is what the hot path cannot spare.
- Indexes that work needs every second are partial: they hold live rows only and stay small as history grows.
- Payloads are `json`, not `jsonb`: what was stored comes back to the last digit (jsonb rewrites 1e22 and -0.0).
- States are domains. A CHECK of a table is parsed and planned again by every statement that writes it, which took a
  fifth of a step's CPU in the database; a domain's is kept by the session (ADR 0009).
- Time is `flow_now()`: the database's clock, which tests move by replacing that one function.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, JSON, JSONB

from orchestrator.core.states import ATTEMPT, HALT, STORED_RUN, TICK, StepStatus

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
NOW = text("flow_now()")
KEY = Text(collation="C")
"""Step keys compare byte by byte: quicker, and `loop.` to `loop/` is the range of a loop's children."""
HOT: dict[str, Any] = {"postgresql_with": {"fillfactor": "80"}}
"""Room on the page for the updates that every row of a hot table gets."""


def _states(name: str, values: Iterable[str]) -> DOMAIN:
    listed = ", ".join(f"'{value}'" for value in sorted(values))
    return DOMAIN(name, Text, constraint_name=f"ck_{name}", check=f"VALUE IN ({listed})", metadata=metadata)


RUN_STATUS = _states("flow_run_status", STORED_RUN)
RUN_HALT = _states("flow_run_halt", HALT)
STEP_STATUS = _states("flow_step_status", StepStatus)
ATTEMPT_STATUS = _states("flow_attempt_status", ATTEMPT)
TICK_OUTCOME = _states("flow_tick_outcome", TICK)


def _when(name: str, **options: object) -> Column[object]:
    return Column(name, DateTime(timezone=True), **options)  # type: ignore[arg-type]


flow_definitions = Table(
    "flow_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("manifest_hash", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("switched_by", Text, comment="who enabled or disabled it last"),
    Column("switch_reason", Text),
    _when("created_at", nullable=False, server_default=NOW),
    _when("updated_at", nullable=False, server_default=NOW),
)

flow_definition_versions = Table(
    "flow_definition_versions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("flow", Text, nullable=False, index=True),
    Column("version", Text, nullable=False),
    Column("manifest", JSON, nullable=False),
    _when("created_at", nullable=False, server_default=NOW),
    Column(
        "format",
        SmallInteger,
        nullable=False,
        server_default="1",
        comment="of the manifest: the lowest that its constructs need; a release reads those up to its own",
    ),
    Column("ordinal", Integer, comment="1, 2, 3 … per flow, as first registered; null until a release that counts"),
    Column("registered_by", Text, comment="who kept it first, and with which release"),
    _when("superseded_at", comment="when another version replaced it last: no worker makes it current again"),
    Index("ix_flow_definition_versions_ordinal", "flow", "ordinal", unique=True),
)

flow_runs = Table(
    "flow_runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("flow", Text, nullable=False),
    Column("manifest_hash", Text, nullable=False),
    Column("status", RUN_STATUS, nullable=False, server_default="pending"),
    Column("halt", RUN_HALT, comment="set once by a cancel or the deadline: no claim is given after that commit"),
    Column("trigger_type", Text, nullable=False, server_default="manual"),
    Column("trigger_key", Text),
    Column("trigger_body", JSON, nullable=False),
    Column("trigger_headers", JSON),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("parent_run_id", Uuid),
    Column("parent_step_key", Text),
    Column("source_run_id", Uuid),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("sinks_open", Integer, nullable=False, comment="open steps that nothing waits for: 0 ends the run"),
    Column("failures", Integer, nullable=False, server_default="0", comment="failed steps that nothing handles"),
    Column(
        "controlled", Boolean, nullable=False, server_default=text("false"), comment="flow_run_controls has its row"
    ),
    _when("created_at", nullable=False, server_default=NOW),
    _when("started_at"),
    _when("ended_at"),
    Column("error", JSON),
    _when("scheduled_for", comment="the time its schedule meant, however late it started"),
    Column(
        "parent_told",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="false: a step of the parent waits for its end, and was not told of it",
    ),
    Index(None, "flow", "id"),
    Index("ix_flow_runs_open", "id", postgresql_where=text("ended_at IS NULL")),
    Index(
        "ix_flow_runs_unhappy",
        "id",
        postgresql_where=text("halt IS NOT NULL OR failures > 0"),
    ),
    # Ids are shown, and asked for, by their end. Its last two bytes find 15 runs among a million, in a third of the
    # room that all digits take. Either costs a start 2 to 3 µs of CPU: 4 % of a single one, 10 % of one among 500.
    Index("ix_flow_runs_ending", text("substring(uuid_send(id), 15)")),
    # Neither column is ever updated, so updates of a run stay HOT; a start without a key is not in it. Without it, a
    # search for a key reads every run: 0.7 s for a million.
    Index(
        "ix_flow_runs_key",
        "trigger_key",
        postgresql_where=text("trigger_key IS NOT NULL AND scheduled_for IS NULL"),
    ),
    Index("ix_flow_runs_parent", "parent_run_id", "id", postgresql_where=text("parent_run_id IS NOT NULL")),
    Index("ix_flow_runs_untold", "ended_at", "id", postgresql_where=text("NOT parent_told")),
    Index("ix_flow_runs_source", "source_run_id", postgresql_where=text("source_run_id IS NOT NULL")),
    Index("ix_flow_runs_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
    **HOT,
)

flow_steps = Table(
    "flow_steps",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("position", Integer, nullable=False, comment="order in the manifest, for people"),
    Column("type", Text, comment="null for a loop"),
    Column("task", Text, comment="<flow>.<type>: the Celery task that handles it"),
    Column("loop_key", KEY, comment="the loop this is a child of"),
    Column("loop_index", Integer),
    Column("item", JSON, comment="what @item() is for this child"),
    Column("status", STEP_STATUS, nullable=False, server_default="blocked"),
    Column("queued", Boolean, nullable=False, server_default=text("false"), comment="status is 'ready'"),
    Column("reason", Text, comment="why it was skipped, failed without an attempt, or cancelled"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="number of the last attempt"),
    Column("failures", Integer, nullable=False, server_default="0", comment="attempts that count against `retries`"),
    Column("crashes", Integer, nullable=False, server_default="0", comment="attempts lost with their worker"),
    Column("deps_open", Integer, nullable=False, server_default="0", comment="predecessors that have not ended"),
    Column(
        "deps_unmet",
        Integer,
        nullable=False,
        server_default="0",
        comment="predecessors that ended otherwise than asked",
    ),
    Column("dispatch_no", Integer, nullable=False, server_default="0", comment="0: never dispatched"),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("timeout", Interval),
    Column("queue_timeout", Interval),
    Column(
        "needs", ARRAY(Text), nullable=False, server_default="{}", comment="outputs its inputs name; '@' is the trigger"
    ),
    Column("children_open", Integer, comment="a loop's children that have not ended"),
    Column("children_failed", Integer),
    Column("children_next", Integer, comment="index of the next child to let in, when the loop has a window"),
    _when("due_at"),
    _when("ready_at"),
    _when("queue_deadline"),
    _when("started_at"),
    _when("ended_at"),
    Column("deploys", Integer, nullable=False, server_default="0", comment="attempts that a stopping worker left"),
    Column("kind", Text, comment="task or loop; null from a release before: a loop if it has no type, else a task"),
    _when("wake_at", comment="when the engine looks at this waiting step again, with its run held"),
    Column("polls", Integer, nullable=False, server_default="0", comment="how often it was not ready, this epoch"),
    Column("child_run_id", Uuid, comment="of a call of a flow: the run that does it, or did it last"),
    # No index names `status`: a step that goes from BLOCKED to RUNNING to SUCCEEDED touches none of them (HOT updates).
    Index("ix_flow_steps_ready", "queue", "priority", "ready_at", postgresql_where=text("queued")),
    Index("ix_flow_steps_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_flow_steps_wake", "wake_at", postgresql_where=text("wake_at IS NOT NULL")),
    Index(
        "ix_flow_steps_queue_deadline",
        "queue_deadline",
        "run_id",
        "step_key",
        postgresql_where=text("queue_deadline IS NOT NULL"),
    ),
    **HOT,
)

flow_step_attempts = Table(
    "flow_step_attempts",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="the claim's fence"),
    Column("owner", Text, nullable=False),
    Column("status", ATTEMPT_STATUS, nullable=False, server_default="running"),
    Column("error_type", Text),
    Column("error_message", Text),
    Column("error_traceback", Text),
    Column("inputs", JSON, comment="as resolved; null above 64 KiB: then the references say where they came from"),
    Column("queue_wait", Interval, comment="ready to claimed"),
    _when("started_at", nullable=False, server_default=NOW),
    _when("ended_at"),
    **HOT,
)

flow_outputs = Table(
    "flow_outputs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("output", JSON, comment="null when the payload is offloaded"),
    Column("store", Text),
    Column("reference", Text),
    Column("size_bytes", BigInteger),
    Column("sha256", Text),
    _when("created_at", nullable=False, server_default=NOW),
)

flow_payloads = Table(
    "flow_payloads",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("owner_id", Uuid, primary_key=True, comment="the run whose attempts wrote them"),
    _when("removed_at", comment="when the run was removed"),
    Index("ix_flow_payloads_owner_id", "owner_id"),
    Index("ix_flow_payloads_removed", "removed_at", "owner_id", postgresql_where=text("removed_at IS NOT NULL")),
)

flow_payload_stores = Table(
    "flow_payload_stores",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true"), comment="there is one at most"),
    Column("id", Uuid, nullable=False, comment="as its mark has it"),
    _when("created_at", nullable=False, server_default=NOW),
)

flow_step_dispatches = Table(
    "flow_step_dispatches",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("dispatch_no", Integer, primary_key=True),
    Column("task", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    _when("due_at", nullable=False, server_default=NOW),
    _when("created_at", nullable=False, server_default=NOW),
    _when("published_at", comment="last time a message for it was accepted by the broker"),
    Column("publish_count", Integer, nullable=False, server_default="0"),
    Column("suppressed", Integer, nullable=False, server_default="0", comment="messages that found nothing to claim"),
    **HOT,
)

flow_step_claims = Table(
    "flow_step_claims",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("owner", Text, nullable=False, comment="host/pid/random of the worker process, then the pool child"),
    Column("version", BigInteger, nullable=False, comment="the fence: rises with every claim"),
    Column("attempt", Integer, nullable=False),
    _when("claimed_at", nullable=False),
    _when("renewed_at", nullable=False),
    _when("expires_at", comment="null: not live"),
    _when("stop_at", comment="when the step's timeout ends it"),
    Column("progress", JSON),
    Index("ix_flow_step_claims_live", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    Index(
        "ix_flow_step_claims_stop",
        "stop_at",
        postgresql_where=text("expires_at IS NOT NULL AND stop_at IS NOT NULL"),
    ),
    **HOT,
)

flow_run_controls = Table(
    "flow_run_controls",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    _when("deadline"),
    _when("timed_out_at"),
    _when("cancel_requested_at"),
    Column("cancel_by", Text),
    Column("cancel_reason", Text),
    _when("grace_ends_at", comment="running handlers are ended after this"),
    _when("paused_at"),
    Column("paused_by", Text),
    Column("closed", Boolean, nullable=False, server_default=text("false"), comment="the run ended"),
    _when("start_at", comment="when it begins; null once it has"),
    Index(
        "ix_flow_run_controls_deadline",
        "deadline",
        "run_id",
        postgresql_where=text(
            "NOT closed AND deadline IS NOT NULL AND timed_out_at IS NULL AND cancel_requested_at IS NULL"
        ),
    ),
    Index(
        "ix_flow_run_controls_grace", "grace_ends_at", postgresql_where=text("NOT closed AND grace_ends_at IS NOT NULL")
    ),
    Index("ix_flow_run_controls_start", "start_at", postgresql_where=text("NOT closed AND start_at IS NOT NULL")),
)

flow_idempotency_keys = Table(
    "flow_idempotency_keys",
    metadata,
    Column("flow", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("request_hash", Text, nullable=False),
    _when("created_at", nullable=False, server_default=NOW),
    _when("expires_at", nullable=False),
    Index(None, "expires_at"),
)

flow_events = Table(
    "flow_events",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("id", BigInteger, Identity(always=True, cache=1), primary_key=True),
    _when("at", nullable=False, server_default=NOW),
    Column("type", Text, nullable=False),
    Column("step_key", Text),
    Column("attempt", Integer),
    Column("facts", JSON),
)

flow_signal_waiters = Table(
    "flow_signal_waiters",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("signal", Text, nullable=False),
    _when("deadline"),
    Column("payload", JSON),
    Column("delivered_by", Text),
    _when("delivered_at"),
    _when("created_at", nullable=False, server_default=NOW),
    Column("key", Text, nullable=False, server_default=""),
    Column("kind", Text, nullable=False, server_default="signal", comment="signal or approval"),
    Column("signal_id", Text, comment="of the signal that it took"),
    _when("closed_at", comment="when it ceased to wait"),
    Column("title", Text, comment="of an approval"),
    Column("assignee", Text, comment="who is asked"),
    Column("shown", JSON, comment="what they are shown"),
    Index(
        "ix_flow_signal_waiters_open",
        "created_at",
        "run_id",
        "step_key",
        postgresql_where=text("kind = 'approval' AND closed_at IS NULL"),
    ),
)

flow_signals = Table(
    "flow_signals",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, Identity(always=True), nullable=False, comment="the order they came in"),
    Column("key", Text, nullable=False, server_default=""),
    Column("payload", JSON, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of key and payload"),
    Column("by", Text),
    Column("kept", Boolean, nullable=False, comment="whether nothing waited for it when it came"),
    _when("sent_at", nullable=False, server_default=NOW),
    _when("expires_at"),
    Column("consumed_by", KEY, comment="the step that took it"),
    _when("consumed_at"),
    Index(
        "ix_flow_signals_kept",
        "run_id",
        "name",
        "key",
        "seq",
        postgresql_where=text("consumed_at IS NULL"),
    ),
)

flow_schedule_states = Table(
    "flow_schedule_states",
    metadata,
    Column("flow", Text, ForeignKey("flow_definitions.name"), primary_key=True),
    Column("trigger_key", Text, primary_key=True),
    Column("expression", Text, comment="override of the manifest's"),
    Column("zone", Text),
    _when("paused_at"),
    Column("paused_by", Text),
    Column("pause_reason", Text),
    _when("last_tick_at"),
    _when("next_tick_at"),
    _when("due_at", comment="next_tick_at and its jitter"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="the current manifest has it"),
    Column("definition", JSON, nullable=False, comment="the trigger, as the manifest has it"),
    _when("overridden_at"),
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
    _when("error_at"),
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
    _when("scheduled_at", primary_key=True),
    Column("kind", Text, nullable=False, comment="cron, manual or backfill"),
    Column("outcome", TICK_OUTCOME, nullable=False),
    Column("count", Integer, nullable=False, server_default="1", comment="missed ticks that end with this one"),
    Column("run_id", Uuid),
    Column("waits_for", Uuid, comment="the open run that a queued tick comes after"),
    Column("backfill_id", Uuid),
    _when("decided_at", nullable=False, server_default=NOW),
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
    _when("since", nullable=False),
    _when("until", nullable=False),
    Column("max_parallel", Integer, nullable=False),
    Column("reverse", Boolean, nullable=False),
    Column(
        "running", ARRAY(Uuid), nullable=False, server_default="{}", comment="its runs that were open when seen last"
    ),
    Column("requested_by", Text, nullable=False),
    _when("created_at", nullable=False, server_default=NOW),
    _when("ended_at"),
    Column("cancelled_by", Text),
    Index("ix_flow_schedule_backfills_open", "id", postgresql_where=text("ended_at IS NULL")),
)

flow_workers = Table(
    "flow_workers",
    metadata,
    Column("id", Text, primary_key=True, comment="host/pid/random of one process start"),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pool", Text, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("prefetch", Integer, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("handlers", ARRAY(Text), nullable=False, comment="task names it can run"),
    Column("release", Text, nullable=False),
    _when("started_at", nullable=False, server_default=NOW),
    _when("seen_at", nullable=False, server_default=NOW),
    _when("consumed_at", comment="last time its probe came back through the broker"),
    _when("stopping_at", comment="it was told to stop: what it leaves is no crash"),
    Column("versions", JSONB, nullable=False, server_default="{}", comment="by flow, the manifest hash of its code"),
    Column(
        "refuses",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="by task@manifest hash, why it takes no such step",
    ),
    Column("payload_store", Uuid, comment="the store that it reads and writes, if it has one"),
)

FUNCTIONS = {
    "flow_now": """\
CREATE FUNCTION flow_now() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
AS 'SELECT clock_timestamp()'""",
    "flow_refuse": """\
CREATE FUNCTION flow_refuse(reason text) RETURNS integer LANGUAGE plpgsql
AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''FLOW1'', MESSAGE = reason; END'""",
    "flow_parked": """\
CREATE FUNCTION flow_parked(run uuid) RETURNS boolean LANGUAGE plpgsql STABLE
AS 'BEGIN
  RETURN EXISTS (SELECT FROM flow_steps WHERE run_id = run AND status = ''waiting'')
     AND NOT EXISTS (SELECT FROM flow_steps
                      WHERE run_id = run AND (queued OR status = ''running''
                             AND COALESCE(kind, CASE WHEN type IS NULL THEN ''loop'' ELSE ''task'' END) = ''task''));
END'""",
}
"""`flow_now`: the one clock of the ledger. `flow_refuse`: takes back a whole statement that met a case it is not
for. `flow_parked`: of an open run only parked steps are left; then people see it as `waiting`."""
