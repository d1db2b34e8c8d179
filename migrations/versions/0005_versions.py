"""Versions of a flow: their format, their ordinal, which were superseded; what workers run, and what they refuse."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = """
UPDATE flow_definition_versions v SET ordinal = n.ordinal
  FROM (SELECT hash, row_number() OVER (PARTITION BY flow ORDER BY created_at, hash) AS ordinal
          FROM flow_definition_versions) AS n
 WHERE v.hash = n.hash
"""
SUPERSEDE = """
UPDATE flow_definition_versions v SET superseded_at = flow_now()
 WHERE NOT EXISTS (SELECT FROM flow_definitions d WHERE d.name = v.flow AND d.manifest_hash = v.hash)
"""


def upgrade() -> None:
    versions = "flow_definition_versions"
    for column in (
        sa.Column(
            "format",
            sa.SmallInteger(),
            server_default="1",
            nullable=False,
            comment="of the manifest: the lowest that its constructs need; a release reads those up to its own",
        ),
        sa.Column(
            "ordinal",
            sa.Integer(),
            nullable=True,
            comment="1, 2, 3 … per flow, as first registered; null until a release that counts",
        ),
        sa.Column("registered_by", sa.Text(), nullable=True, comment="who kept it first, and with which release"),
        sa.Column(
            "superseded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when another version replaced it last: no worker makes it current again",
        ),
    ):
        op.add_column(versions, column)
    op.execute(NUMBER)
    op.execute(SUPERSEDE)
    op.create_index("ix_flow_definition_versions_ordinal", versions, ["flow", "ordinal"], unique=True)
    for name, comment in (
        ("versions", "by flow, the manifest hash of its code"),
        ("refuses", "by task@manifest hash, why it takes no such step"),
    ):
        column = sa.Column(name, postgresql.JSONB(), server_default="{}", nullable=False, comment=comment)
        op.add_column("flow_workers", column)


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
