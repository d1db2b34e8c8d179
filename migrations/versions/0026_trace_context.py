"""The trace of the request that started a run."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "the trace of the request that started it, as W3C has it in headers"
    op.add_column("flow_runs", sa.Column("trace_context", postgresql.JSON(), nullable=True, comment=comment))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
