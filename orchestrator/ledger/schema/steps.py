"""Steps, their attempts and outputs, their messages and claims."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Interval, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from orchestrator.ledger.schema.base import ATTEMPT_STATUS, HOT, KEY, NOW, STEP_STATUS, metadata, when

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
    when("due_at"),
    when("ready_at"),
    when("queue_deadline"),
    when("started_at"),
    when("ended_at"),
    Column("deploys", Integer, nullable=False, server_default="0", comment="attempts that a stopping worker left"),
    Column("kind", Text, comment="task or loop; null from a release before: a loop if it has no type, else a task"),
    when("wake_at", comment="when the engine looks at this waiting step again, with its run held"),
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
    when("started_at", nullable=False, server_default=NOW),
    when("ended_at"),
    Column("error_fingerprint", Text, comment="errors that are alike have the same"),
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
    when("created_at", nullable=False, server_default=NOW),
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
    when("due_at", nullable=False, server_default=NOW),
    when("created_at", nullable=False, server_default=NOW),
    when("published_at", comment="last time a message for it was accepted by the broker"),
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
    when("claimed_at", nullable=False),
    when("renewed_at", nullable=False),
    when("expires_at", comment="null: not live"),
    when("stop_at", comment="when the step's timeout ends it"),
    Column("progress", JSON),
    Index("ix_flow_step_claims_live", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    Index(
        "ix_flow_step_claims_stop",
        "stop_at",
        postgresql_where=text("expires_at IS NOT NULL AND stop_at IS NOT NULL"),
    ),
    **HOT,
)
