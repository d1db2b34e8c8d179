"""Flows, their versions, and the workers that have them."""

from sqlalchemy import Boolean, Column, Index, Integer, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from orchestrator.ledger.schema.base import NOW, metadata, when

flow_definitions = Table(
    "flow_definitions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("manifest_hash", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("switched_by", Text, comment="who enabled or disabled it last"),
    Column("switch_reason", Text),
    when("created_at", nullable=False, server_default=NOW),
    when("updated_at", nullable=False, server_default=NOW),
)

flow_definition_versions = Table(
    "flow_definition_versions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("flow", Text, nullable=False, index=True),
    Column("version", Text, nullable=False),
    Column("manifest", JSON, nullable=False),
    when("created_at", nullable=False, server_default=NOW),
    Column(
        "format",
        SmallInteger,
        nullable=False,
        server_default="1",
        comment="of the manifest: the lowest that its constructs need; a release reads those up to its own",
    ),
    Column("ordinal", Integer, comment="1, 2, 3 … per flow, as first registered; null until a release that counts"),
    Column("registered_by", Text, comment="who kept it first, and with which release"),
    when("superseded_at", comment="when another version replaced it last: no worker makes it current again"),
    Index("ix_flow_definition_versions_ordinal", "flow", "ordinal", unique=True),
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
    when("started_at", nullable=False, server_default=NOW),
    when("seen_at", nullable=False, server_default=NOW),
    when("consumed_at", comment="last time its probe came back through the broker"),
    when("stopping_at", comment="it was told to stop: what it leaves is no crash"),
    Column("versions", JSONB, nullable=False, server_default="{}", comment="by flow, the manifest hash of its code"),
    Column(
        "refuses",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="by task@manifest hash, why it takes no such step",
    ),
    Column("payload_store", Uuid, comment="the store that it reads and writes, if it has one"),
    Column("label", Text, comment="what the release of its code is called, if it was told"),
    when("drain_at", comment="somebody told it to stop: it does when it next looks"),
    Column("drain_by", Text),
)
