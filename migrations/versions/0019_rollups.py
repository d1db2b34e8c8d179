"""How many runs ended, and how long they took, by minute."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")
BUCKETS = "runs in each bucket of `core.histogram`"
STATUS = postgresql.DOMAIN("flow_run_status", sa.Text(), create_type=False)


def upgrade() -> None:
    op.create_table(
        "flow_run_rollups",
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False, comment="in which they ended"),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="its ordinal; 0 of a release that did not count"),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False, comment="from the start to the end, all together"),
        sa.Column("durations", postgresql.ARRAY(sa.BigInteger()), nullable=False, comment=BUCKETS),
        sa.Column("wait_s", sa.Double(), nullable=False, comment="from acceptance to the start, all together"),
        sa.Column("waits", postgresql.ARRAY(sa.BigInteger()), nullable=False, comment=BUCKETS),
        sa.PrimaryKeyConstraint("minute", "flow", "version", "status", name=op.f("pk_flow_run_rollups")),
    )
    counted = "those in the roll-ups; emptied when it is settled"
    settled = "so old that no run of these ids appears any more"
    op.create_table(
        "flow_rollup_pages",
        sa.Column("begin", sa.Uuid(), nullable=False, comment="runs behind this id"),
        sa.Column("end", sa.Uuid(), nullable=False, comment="up to this one were looked at together"),
        sa.Column("counted", postgresql.ARRAY(sa.Uuid()), nullable=False, comment=counted),
        sa.Column("waiting", postgresql.ARRAY(sa.Uuid()), nullable=False, comment="those that had not ended yet"),
        sa.Column("settled", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment=settled),
        sa.Column("looked_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("begin", name=op.f("pk_flow_rollup_pages")),
    )
    op.create_index("ix_flow_rollup_pages_looked_at", "flow_rollup_pages", ["looked_at"])
    op.create_table(
        "flow_rollup_state",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="there is one at most"),
        sa.Column("behind", sa.Uuid(), nullable=False, comment="runs behind this id were not looked at yet"),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_flow_rollup_state")),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
