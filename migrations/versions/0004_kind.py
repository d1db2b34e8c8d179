"""Steps have a kind. A release before goes on writing none: its steps without a type are loops, all others tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "task or loop; null from a release before: a loop if it has no type, else a task"
    op.add_column("flow_steps", sa.Column("kind", sa.Text(), nullable=True, comment=comment))
    op.execute(
        """CREATE OR REPLACE FUNCTION flow_parked(run uuid) RETURNS boolean LANGUAGE plpgsql STABLE
AS 'BEGIN
  RETURN EXISTS (SELECT FROM flow_steps WHERE run_id = run AND status = ''waiting'')
     AND NOT EXISTS (SELECT FROM flow_steps
                      WHERE run_id = run AND (queued OR status = ''running''
                             AND COALESCE(kind, CASE WHEN type IS NULL THEN ''loop'' ELSE ''task'' END) = ''task''));
END'"""
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
