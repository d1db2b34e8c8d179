"""Requests over HTTP that have an idempotency key, and their answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "flow_request_keys",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False, comment="the route, by its operationId"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="of all that the request says"),
        sa.Column("status", sa.Integer(), nullable=True, comment="of the first answer; null in no row that others see"),
        sa.Column("headers", postgresql.JSON(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="JSON, without secrets"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("caller", "operation", "key", name=op.f("pk_flow_request_keys")),
    )
    op.create_index(op.f("ix_flow_request_keys_expires_at"), "flow_request_keys", ["expires_at"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
