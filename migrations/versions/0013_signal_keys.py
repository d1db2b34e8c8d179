"""An index of waits by the name and the key of their signal: thousands of items of a run may wait, each for its own."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_flow_signal_waiters_name", "flow_signal_waiters", ["run_id", "signal", "key"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
