"""What keepers ask is found by index; workers that were told to stop, and attempts that they left."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ATTEMPT = "'cancelled', 'crashed', 'failed', 'released', 'running', 'succeeded', 'timed_out'"
DUE = "NOT closed AND deadline IS NOT NULL AND timed_out_at IS NULL AND cancel_requested_at IS NULL"
GRACE = "NOT closed AND grace_ends_at IS NOT NULL"
STOP = "expires_at IS NOT NULL AND stop_at IS NOT NULL"
QUEUED = "queue_deadline IS NOT NULL"


def upgrade() -> None:
    op.execute("ALTER DOMAIN flow_attempt_status DROP CONSTRAINT ck_flow_attempt_status")
    op.execute(f"ALTER DOMAIN flow_attempt_status ADD CONSTRAINT ck_flow_attempt_status CHECK (VALUE IN ({ATTEMPT}))")
    op.add_column(
        "flow_steps",
        sa.Column(
            "deploys",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="attempts that a stopping worker left",
        ),
    )
    op.add_column(
        "flow_workers",
        sa.Column(
            "stopping_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="it was told to stop: what it leaves is no crash",
        ),
    )
    _index("ix_flow_steps_queue_deadline", "flow_steps", "queue_deadline, run_id, step_key", QUEUED)
    _index("ix_flow_run_controls_deadline", "flow_run_controls", "deadline, run_id", DUE)
    _index("ix_flow_run_controls_grace", "flow_run_controls", "grace_ends_at", GRACE)
    _index("ix_flow_step_claims_stop", "flow_step_claims", "stop_at", STOP)


def _index(name: str, table: str, columns: str, where: str) -> None:
    """One that was made beforehand stays; one of the revision before, of that name, has other columns."""
    op.execute(f"""
DO $$BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND indisvalid
                    AND strpos(pg_get_indexdef(indexrelid), '({columns})') > 0) THEN
    DROP INDEX IF EXISTS {name};
    CREATE INDEX {name} ON {table} ({columns}) WHERE {where};
  END IF;
END$$""")
