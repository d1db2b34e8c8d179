"""Long outputs may be kept outside of the ledger: which store is the ledger's, and which runs have something there."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")


def upgrade() -> None:
    op.create_table(
        "flow_payload_stores",
        sa.Column("one", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="there is one at most"),
        sa.Column("id", sa.Uuid(), nullable=False, comment="as its mark has it"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_flow_payload_stores")),
    )
    op.create_table(
        "flow_payloads",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False, comment="the run whose attempts wrote them"),
        sa.Column("removed_at", sa.DateTime(timezone=True), comment="when the run was removed"),
        sa.PrimaryKeyConstraint("run_id", "owner_id", name=op.f("pk_flow_payloads")),
    )
    op.create_index("ix_flow_payloads_owner_id", "flow_payloads", ["owner_id"])
    op.create_index(
        "ix_flow_payloads_removed",
        "flow_payloads",
        ["removed_at", "owner_id"],
        postgresql_where=sa.text("removed_at IS NOT NULL"),
    )
    comment = "the store that it reads and writes, if it has one"
    op.add_column("flow_workers", sa.Column("payload_store", sa.Uuid(), nullable=True, comment=comment))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
