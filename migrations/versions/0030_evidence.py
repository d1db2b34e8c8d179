"""What was tried and found out: backups, drills, smoke tests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "flow_evidence",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False, comment="backup, drill, smoke, failover, alert"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("flow_now()"),
            comment="when it was done, which may be before it was recorded",
        ),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("facts", postgresql.JSON(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
    )
    op.create_index("ix_flow_evidence_kind", "flow_evidence", ["kind", "at"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
