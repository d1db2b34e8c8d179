"""What the release of a worker's code is called."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    comment = "what the release of its code is called, if it was told"
    op.add_column("flow_workers", sa.Column("label", sa.Text(), nullable=True, comment=comment))


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
