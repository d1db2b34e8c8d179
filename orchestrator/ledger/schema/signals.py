"""Waits for signals and answers, and what was sent."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import KEY, NOW, metadata, when

flow_signal_waiters = Table(
    "flow_signal_waiters",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("signal", Text, nullable=False),
    when("deadline"),
    Column("payload", JSON),
    Column("delivered_by", Text),
    when("delivered_at"),
    when("created_at", nullable=False, server_default=NOW),
    Column("key", Text, nullable=False, server_default=""),
    Column("kind", Text, nullable=False, server_default="signal", comment="signal or approval"),
    Column("signal_id", Text, comment="of the signal that it took"),
    when("closed_at", comment="when it ceased to wait"),
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
    Index("ix_flow_signal_waiters_name", "run_id", "signal", "key"),
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
    when("sent_at", nullable=False, server_default=NOW),
    when("expires_at"),
    Column("consumed_by", KEY, comment="the step that took it"),
    when("consumed_at"),
    Index(
        "ix_flow_signals_kept",
        "run_id",
        "name",
        "key",
        "seq",
        postgresql_where=text("consumed_at IS NULL"),
    ),
)
