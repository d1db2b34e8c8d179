"""Users of a provider of identities are known by it and by who they are there; a try to sign in is a row."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    issuer = "the provider that they come from; none: they have a password"
    op.add_column("flow_users", sa.Column("issuer", sa.Text(), nullable=True, comment=issuer))
    op.add_column("flow_users", sa.Column("subject", sa.Text(), nullable=True, comment="who they are there, for good"))
    op.create_index(
        "ix_flow_users_identity",
        "flow_users",
        ["issuer", "subject"],
        unique=True,
        postgresql_where=sa.text("issuer IS NOT NULL"),
    )
    digest = "of what the browser and the provider bring back"
    op.create_table(
        "flow_sign_ins",
        sa.Column("digest", sa.LargeBinary(), primary_key=True, comment=digest),
        sa.Column("next", sa.Text(), nullable=False, comment="the path to go to then"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_flow_sign_ins_expires_at", "flow_sign_ins", ["expires_at"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
