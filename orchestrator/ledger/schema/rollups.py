"""How many runs ended, and how long they took, by minute."""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.ledger.schema.base import NOW, RUN_STATUS, metadata, when

_BUCKETS = "runs in each bucket of `core.histogram`"

flow_run_rollups = Table(
    "flow_run_rollups",
    metadata,
    when("minute", primary_key=True, comment="in which they ended"),
    Column("flow", Text, primary_key=True),
    Column("version", Integer, primary_key=True, comment="its ordinal; 0 of a release that did not count"),
    Column("status", RUN_STATUS, primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("duration_s", Double, nullable=False, comment="from the start to the end, all together"),
    Column("durations", ARRAY(BigInteger), nullable=False, comment=_BUCKETS),
    Column("wait_s", Double, nullable=False, comment="from acceptance to the start, all together"),
    Column("waits", ARRAY(BigInteger), nullable=False, comment=_BUCKETS),
)

flow_rollup_pages = Table(
    "flow_rollup_pages",
    metadata,
    Column("begin", Uuid, primary_key=True, comment="runs behind this id"),
    Column("end", Uuid, nullable=False, comment="up to this one were looked at together"),
    Column("counted", ARRAY(Uuid), nullable=False, comment="those in the roll-ups; emptied when it is settled"),
    Column("waiting", ARRAY(Uuid), nullable=False, comment="those that had not ended yet"),
    Column(
        "settled",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="so old that no run of these ids appears any more",
    ),
    when("looked_at", nullable=False, server_default=NOW),
    Index("ix_flow_rollup_pages_looked_at", "looked_at"),
)

flow_rollup_state = Table(
    "flow_rollup_state",
    metadata,
    Column("one", Boolean, primary_key=True, server_default=text("true"), comment="there is one at most"),
    Column("behind", Uuid, nullable=False, comment="runs behind this id were not looked at yet"),
)
