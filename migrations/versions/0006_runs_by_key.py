"""Runs are found by their idempotency key, also after the key expired."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One that was made beforehand stays; one whose making was interrupted does not.
    op.execute("""
DO $$BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('ix_flow_runs_key') AND indisvalid) THEN
    DROP INDEX IF EXISTS ix_flow_runs_key;
    CREATE INDEX ix_flow_runs_key ON flow_runs (trigger_key) WHERE trigger_key IS NOT NULL AND scheduled_for IS NULL;
  END IF;
END$$""")
