"""Fingerprints of errors: errors that are alike have the same."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "errors that are alike have the same"
    op.add_column("flow_step_attempts", sa.Column("error_fingerprint", sa.Text(), nullable=True, comment=comment))
    op.add_column("flow_runs", sa.Column("fingerprint", sa.Text(), nullable=True, comment=f"of the error; {comment}"))
    op.create_index(
        "ix_flow_runs_fingerprint",
        "flow_runs",
        ["fingerprint", "id"],
        postgresql_where=sa.text("fingerprint IS NOT NULL"),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
