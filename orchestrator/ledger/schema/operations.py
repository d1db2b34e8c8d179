"""Operations on many runs, and what became of each."""

from sqlalchemy import Column, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import NOW, OPERATION_STATE, OUTCOME, metadata, when

flow_operations = Table(
    "flow_operations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("action", Text, nullable=False, comment="cancel, retry or delete"),
    Column("wanted", JSON, nullable=False, comment="which runs were asked for: a filter, or how many ids"),
    Column("options", JSON, nullable=False, comment="of a retry: force, fresh"),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("state", OPERATION_STATE, nullable=False, server_default="running"),
    Column("total", Integer, nullable=False, comment="its runs, listed when it was made"),
    Column("foreseen", Integer, comment="how many the dry run had said"),
    Column("left_out", JSON, nullable=False, comment="those not listed that were asked for, too: counts by reason"),
    Column("counts", JSON, comment="outcomes, once it has ended"),
    Column("changed_by", Text, comment="who paused, resumed or cancelled it last"),
    when("changed_at"),
    when("created_at", nullable=False, server_default=NOW),
    when("ended_at"),
    Column("request_key", Text, comment="the idempotency key; it may be used anew after a day"),
    Column("request_hash", Text),
    Index(
        "ix_flow_operations_request_key",
        "request_key",
        unique=True,
        postgresql_where=text("request_key IS NOT NULL"),
    ),
    Index("ix_flow_operations_running", "id", postgresql_where=text("state = 'running'")),
    Index("ix_flow_operations_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

flow_operation_runs = Table(
    "flow_operation_runs",
    metadata,
    Column("operation_id", Uuid, primary_key=True),
    Column("run_id", Uuid, primary_key=True),
    Column("outcome", OUTCOME, nullable=False, server_default="pending"),
    Column("detail", Text, comment="why it was left out, or the last error"),
    Column("tries", Integer, nullable=False, server_default="0", comment="those that ended with an error"),
    when("due_at", nullable=False, server_default=NOW, comment="not before"),
    when("at", comment="when it got its outcome"),
    Index(
        "ix_flow_operation_runs_pending",
        "operation_id",
        "due_at",
        "run_id",
        postgresql_where=text("outcome = 'pending'"),
    ),
)
