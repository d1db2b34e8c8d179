"""Webhooks: whose slug it is, what came, and what makes it known again."""

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import NOW, metadata, when

flow_webhooks = Table(
    "flow_webhooks",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("flow", Text, nullable=False, index=True, comment="whose current manifest has it"),
    when("created_at", nullable=False, server_default=NOW),
)

flow_webhook_deliveries = Table(
    "flow_webhook_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("flow", Text, nullable=False),
    when("received_at", nullable=False, server_default=NOW),
    Column("scheme", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("outcome", Text, nullable=False, comment="started, seen, signalled, handshake or refused"),
    Column("status", SmallInteger, nullable=False, comment="of HTTP, as it was answered"),
    Column("gate", Text, comment="the first that it did not pass, in mode audit too"),
    Column("why", Text),
    Column("verdicts", JSON, nullable=False, comment="gate by gate"),
    Column("address", Text),
    Column("size_bytes", Integer, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of the body"),
    Column("headers", JSON, nullable=False, comment="those that prove nothing"),
    Column("body", JSON, comment="without secrets; null: it is long, or no JSON and no form"),
    Column("run_id", Uuid),
    Column("previous_key", Boolean, nullable=False, server_default=text("false")),
    Column("count", Integer, nullable=False, server_default="1", comment="refusals of a flood that it stands for"),
    Column("raw", LargeBinary, comment="the whole request, of one that was refused, until it is replayed"),
    Column("replay_of", Uuid),
    when("replayed_at"),
    Index("ix_flow_webhook_deliveries_ending", text("substring(uuid_send(id), 15)")),
    Index("ix_flow_webhook_deliveries_slug", "slug", "id"),
    Index("ix_flow_webhook_deliveries_run", "run_id", postgresql_where=text("run_id IS NOT NULL")),
)

flow_webhook_nonces = Table(
    "flow_webhook_nonces",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("delivery_id", Uuid, nullable=False),
    Column("run_id", Uuid),
    when("created_at", nullable=False, server_default=NOW),
    when("expires_at", nullable=False),
    Index(None, "expires_at"),
)
