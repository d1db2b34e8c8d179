"""Runs that were made of a run are found by it."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One that was made beforehand stays; one whose making was interrupted does not.
    op.execute("""
DO $$BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('ix_flow_runs_source') AND indisvalid) THEN
    DROP INDEX IF EXISTS ix_flow_runs_source;
    CREATE INDEX ix_flow_runs_source ON flow_runs (source_run_id) WHERE source_run_id IS NOT NULL;
  END IF;
END$$""")


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
