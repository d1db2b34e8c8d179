"""What handlers logged and printed."""

from sqlalchemy import Column, Integer, Table, Uuid
from sqlalchemy.dialects.postgresql import JSON

from orchestrator.ledger.schema.base import KEY, NOW, metadata, when

flow_step_logs = Table(
    "flow_step_logs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("step_key", KEY, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("first", Integer, primary_key=True, comment="number of its first line in the attempt, from 1"),
    Column("lines", JSON, nullable=False, comment="a batch of lines: time, level, text of each"),
    when("written_at", nullable=False, server_default=NOW),
)
