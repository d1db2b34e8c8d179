"""Steps that the engine looks at again at a time, and steps that poll.

A time of its own, not `due_at`: a keeper of a release before makes every waiting step whose `due_at` has come READY.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ATTEMPT = "'cancelled', 'crashed', 'failed', 'polled', 'released', 'running', 'succeeded', 'timed_out'"


def upgrade() -> None:
    op.add_column(
        "flow_steps",
        sa.Column(
            "wake_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the engine looks at this waiting step again, with its run held",
        ),
    )
    op.add_column(
        "flow_steps",
        sa.Column(
            "polls", sa.Integer(), server_default="0", nullable=False, comment="how often it was not ready, this epoch"
        ),
    )
    op.create_index("ix_flow_steps_wake", "flow_steps", ["wake_at"], postgresql_where=sa.text("wake_at IS NOT NULL"))
    op.execute("ALTER DOMAIN flow_attempt_status DROP CONSTRAINT ck_flow_attempt_status")
    op.execute(f"ALTER DOMAIN flow_attempt_status ADD CONSTRAINT ck_flow_attempt_status CHECK (VALUE IN ({ATTEMPT}))")


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
