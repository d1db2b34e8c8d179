"""Requests over HTTP that have an idempotency key."""

from sqlalchemy import Column, Index, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import metadata, when

flow_request_keys = Table(
    "flow_request_keys",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("operation", Text, primary_key=True, comment="the route, by its operationId"),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, comment="of all that the request says"),
    Column("status", Integer, comment="of the first answer; null in no row that others see"),
    Column("headers", JSON),
    Column("answer", Text, comment="JSON, without secrets"),
    when("expires_at", nullable=False),
    Index(None, "expires_at"),
)
