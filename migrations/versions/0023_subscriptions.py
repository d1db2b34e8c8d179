"""Subscriptions, what is sent to them, and how their endpoints do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")


def upgrade() -> None:
    state = postgresql.DOMAIN("flow_notification_state", sa.Text(), create_type=False)
    listed = "'dead', 'delivered', 'pending'"
    op.execute(
        "CREATE DOMAIN flow_notification_state AS text "
        f"CONSTRAINT ck_flow_notification_state CHECK (VALUE IN ({listed}))"
    )
    op.create_table(
        "flow_subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="json, slack or email"),
        sa.Column("address", sa.Text(), nullable=False, comment="a URL, an e-mail address, or a reference to one"),
        sa.Column("types", postgresql.ARRAY(sa.Text()), nullable=False, comment="what is told"),
        sa.Column("q", sa.Text(), nullable=False, server_default="", comment="of which runs; empty: of all"),
        sa.Column("include", postgresql.ARRAY(sa.Text()), nullable=False, comment="what is told besides"),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("why_disabled", sa.Text(), comment="where nobody did it"),
        sa.Column(
            "secret", sa.Text(), comment="a reference; made:N is made of the signing key; null: nothing is signed"
        ),
        sa.Column(
            "fingerprint", sa.Text(), comment="of a secret that was made: whether the signing key is still the same"
        ),
        sa.Column("previous_secret", sa.Text(), comment="signs as well, after a rotation,"),
        sa.Column("previous_fingerprint", sa.Text()),
        sa.Column("previous_until", sa.DateTime(timezone=True), comment="until then"),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=NOW,
            comment="what happened before is not told",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True)),
        sa.Column("changed_by", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_subscriptions")),
    )
    op.create_index("ix_flow_subscriptions_name", "flow_subscriptions", ["name"], unique=True)
    op.create_table(
        "flow_endpoints",
        sa.Column("address", sa.Text(), nullable=False, comment="as the subscriptions have it"),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0", comment="in a row"),
        sa.Column("open_until", sa.DateTime(timezone=True), comment="nothing is sent before"),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_flow_endpoints")),
    )
    op.create_table(
        "flow_notification_feed",
        sa.Column("id", sa.SmallInteger(), nullable=False, comment="1: there is one row"),
        sa.Column(
            "seen", sa.Text(), nullable=False, comment="a snapshot: notifications were made of all that had ended then"
        ),
        sa.Column("until", sa.Text(), comment="a later one, on the way to which it is,"),
        sa.Column("tx", sa.BigInteger(), comment="after this transaction"),
        sa.Column("event_id", sa.BigInteger(), comment="and this event of it"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_notification_feed")),
    )
    op.create_table(
        "flow_notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), comment="null: it is a test"),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when it happened"),
        sa.Column("data", postgresql.JSON(), nullable=False, comment="what is told"),
        sa.Column("state", state, nullable=False, server_default="pending"),
        sa.Column(
            "tries",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="that failed, since it was made or redriven",
        ),
        sa.Column(
            "claims", sa.Integer(), nullable=False, server_default="0", comment="the number of the latest attempt"
        ),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=NOW,
            comment="not before; of one under way: when it is lost",
        ),
        sa.Column("claimed_until", sa.DateTime(timezone=True), comment="it is under way"),
        sa.Column("give_up_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("status", sa.SmallInteger(), comment="what the endpoint answered last"),
        sa.Column("error", sa.Text(), comment="what went wrong last"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_notifications")),
    )
    op.create_index("ix_flow_notifications_event", "flow_notifications", ["subscription_id", "event_id"], unique=True)
    op.create_index(
        "ix_flow_notifications_pending",
        "flow_notifications",
        ["subscription_id", "due_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_flow_notifications_late",
        "flow_notifications",
        ["give_up_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_flow_notifications_run", "flow_notifications", ["run_id"], postgresql_where=sa.text("run_id IS NOT NULL")
    )
    op.create_table(
        "flow_notification_attempts",
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=NOW, comment="when it was over"),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("notification_id", "attempt", name=op.f("pk_flow_notification_attempts")),
    )


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
