"""What is in the payload store."""

from sqlalchemy import Boolean, Column, Index, Table, Uuid, text

from orchestrator.ledger.schema.base import NOW, metadata, when

flow_payloads = Table(
    "flow_payloads",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("owner_id", Uuid, primary_key=True, comment="the run whose attempts wrote them"),
    when("removed_at", comment="when the run was removed"),
    Index("ix_flow_payloads_owner_id", "owner_id"),
    Index("ix_flow_payloads_removed", "removed_at", "owner_id", postgresql_where=text("removed_at IS NOT NULL")),
)

flow_payload_stores = Table(
    "flow_payload_stores",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true"), comment="there is one at most"),
    Column("id", Uuid, nullable=False, comment="as its mark has it"),
    when("created_at", nullable=False, server_default=NOW),
)
