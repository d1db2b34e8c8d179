"""What was tried and found out."""

from sqlalchemy import BigInteger, Boolean, Column, Identity, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import NOW, metadata, when

flow_evidence = Table(
    "flow_evidence",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False, comment="backup, drill, smoke, failover, alert"),
    when("at", nullable=False, server_default=NOW, comment="when it was done, which may be before it was recorded"),
    Column("ok", Boolean, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("by", Text, nullable=False),
    Index("ix_flow_evidence_kind", "kind", "at"),
)
