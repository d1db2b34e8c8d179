"""Runs, and what stands beside them."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from orchestrator.ledger.schema.base import HOT, NOW, RUN_HALT, RUN_STATUS, metadata, when

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
    when("created_at", nullable=False, server_default=NOW),
    when("started_at"),
    when("ended_at"),
    Column("error", JSON),
    when("scheduled_for", comment="the time its schedule meant, however late it started"),
    Column(
        "parent_told",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="false: a step of the parent waits for its end, and was not told of it",
    ),
    Column("search", JSONB, comment="search attributes that the flow declares, by their paths in the input"),
    Column("fingerprint", Text, comment="of the error; errors that are alike have the same"),
    Column("trace_context", JSON, comment="the trace of the request that started it, as W3C has it in headers"),
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
    # Written with the failure, so that a run that goes well is in no index of it.
    Index("ix_flow_runs_fingerprint", "fingerprint", "id", postgresql_where=text("fingerprint IS NOT NULL")),
    # Never updated, too: updates of a run stay HOT. A run of a flow without attributes has null, and is not in it.
    Index(
        "ix_flow_runs_search",
        "search",
        postgresql_using="gin",
        postgresql_ops={"search": "jsonb_path_ops"},
        postgresql_where=text("search IS NOT NULL"),
    ),
    **HOT,
)

flow_run_controls = Table(
    "flow_run_controls",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    when("deadline"),
    when("timed_out_at"),
    when("cancel_requested_at"),
    Column("cancel_by", Text),
    Column("cancel_reason", Text),
    when("grace_ends_at", comment="running handlers are ended after this"),
    when("paused_at"),
    Column("paused_by", Text),
    Column("closed", Boolean, nullable=False, server_default=text("false"), comment="the run ended"),
    when("start_at", comment="when it begins; null once it has"),
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
    when("created_at", nullable=False, server_default=NOW),
    when("expires_at", nullable=False),
    Index(None, "expires_at"),
)

flow_events = Table(
    "flow_events",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("id", BigInteger, Identity(always=True, cache=1), primary_key=True),
    when("at", nullable=False, server_default=NOW),
    Column("type", Text, nullable=False),
    Column("step_key", Text),
    Column("attempt", Integer),
    Column("facts", JSON),
    Column(
        "tx",
        BigInteger,
        server_default=text("pg_current_xact_id()::text::bigint"),
        comment="the transaction that wrote it; null: written before there was this column",
    ),
    # Whoever reads all events goes on by transaction. It always grows at its end: see the decision on the stream.
    Index("ix_flow_events_tx", "tx", postgresql_where=text("tx IS NOT NULL")),
)
