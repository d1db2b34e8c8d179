"""Webhooks: whose slug it is, what came, and what makes it known again."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")


def upgrade() -> None:
    op.create_table(
        "flow_webhooks",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False, comment="whose current manifest has it"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_flow_webhooks")),
    )
    op.create_index(op.f("ix_flow_webhooks_flow"), "flow_webhooks", ["flow"])
    op.create_table(
        "flow_webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="started, seen, signalled, handshake or refused"),
        sa.Column("status", sa.SmallInteger(), nullable=False, comment="of HTTP, as it was answered"),
        sa.Column("gate", sa.Text(), comment="the first that it did not pass, in mode audit too"),
        sa.Column("why", sa.Text()),
        sa.Column("verdicts", sa.JSON(), nullable=False, comment="gate by gate"),
        sa.Column("address", sa.Text()),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the body"),
        sa.Column("headers", sa.JSON(), nullable=False, comment="those that prove nothing"),
        sa.Column("body", sa.JSON(), comment="without secrets; null: it is long, or no JSON and no form"),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("previous_key", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "count", sa.Integer(), server_default="1", nullable=False, comment="refusals of a flood that it stands for"
        ),
        sa.Column("raw", sa.LargeBinary(), comment="the whole request, of one that was refused, until it is replayed"),
        sa.Column("replay_of", sa.Uuid()),
        sa.Column("replayed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_webhook_deliveries")),
    )
    op.create_index("ix_flow_webhook_deliveries_slug", "flow_webhook_deliveries", ["slug", "id"])
    op.create_index(
        "ix_flow_webhook_deliveries_run",
        "flow_webhook_deliveries",
        ["run_id"],
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_table(
        "flow_webhook_nonces",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slug", "key", name=op.f("pk_flow_webhook_nonces")),
    )
    op.create_index(op.f("ix_flow_webhook_nonces_expires_at"), "flow_webhook_nonces", ["expires_at"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
