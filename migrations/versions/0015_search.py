"""Search attributes: values of the input that a flow declares, by which its runs are found."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "search attributes that the flow declares, by their paths in the input"
    op.add_column("flow_runs", sa.Column("search", postgresql.JSONB(), nullable=True, comment=comment))
    op.create_index(
        "ix_flow_runs_search",
        "flow_runs",
        ["search"],
        postgresql_using="gin",
        postgresql_ops={"search": "jsonb_path_ops"},
        postgresql_where=sa.text("search IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
