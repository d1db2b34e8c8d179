"""Who may come in through the API, and what they did."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

NOW = sa.text("flow_now()")


def _when(name: str, *, nullable: bool = True, now: bool = False, comment: str | None = None) -> sa.Column:
    default = NOW if now else None
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=default, nullable=nullable and not now, comment=comment
    )


def _text(name: str, *, nullable: bool = True, comment: str | None = None) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable, comment=comment)


def _texts(name: str, comment: str) -> sa.Column:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), nullable=False, comment=comment)


def _digest() -> sa.Column:
    return sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the secret")


def upgrade() -> None:
    op.create_table(
        "flow_api_keys",
        _text("id", nullable=False, comment="the part of the key that is no secret"),
        _text("name", nullable=False),
        _text("role", nullable=False),
        _texts("scopes", "empty: all that the role may"),
        _texts("flows", "empty: every flow"),
        _digest(),
        _when("created_at", now=True),
        _text("created_by", nullable=False),
        _when("expires_at"),
        _when("last_used_at", comment="to the minute"),
        _when("revoked_at"),
        _text("revoked_by"),
        _text("replaced_by", comment="the key that a rotation made of it"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_api_keys")),
    )
    current = sa.text("revoked_at IS NULL AND replaced_by IS NULL")
    op.create_index("ix_flow_api_keys_name", "flow_api_keys", ["name"], unique=True, postgresql_where=current)
    op.create_table(
        "flow_users",
        _text("name", nullable=False),
        _text("role", nullable=False),
        _texts("groups", "as the provider of identities said last"),
        _text("password_hash", comment="none: they come from a provider of identities"),
        _when("created_at", now=True),
        _text("created_by", nullable=False),
        _when("disabled_at"),
        _when("signed_in_at", comment="last"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_flow_users")),
    )
    op.create_table(
        "flow_sessions",
        _text("id", nullable=False, comment="the part of the token that is no secret"),
        _text("user_name", nullable=False),
        _digest(),
        _text("method", nullable=False, comment="password or oidc"),
        _when("created_at", now=True),
        _when("expires_at", nullable=False),
        _text("address"),
        _text("agent", comment="what the browser called itself"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_sessions")),
    )
    op.create_index("ix_flow_sessions_user_name", "flow_sessions", ["user_name"])
    op.create_index("ix_flow_sessions_expires_at", "flow_sessions", ["expires_at"])
    op.create_table(
        "flow_audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True, cache=1), nullable=False),
        _when("at", now=True),
        _text("actor", nullable=False),
        _text("key_id", comment="the API key or the session"),
        _text("action", nullable=False),
        _text("target", nullable=False),
        sa.Column("was", postgresql.JSONB()),
        sa.Column("became", postgresql.JSONB()),
        _text("reason"),
        _text("address"),
        _text("request_id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_audit")),
    )
    op.create_index("ix_flow_audit_target", "flow_audit", ["target", "id"])
    op.create_index("ix_flow_audit_at", "flow_audit", ["at"])


def downgrade() -> None:
    raise NotImplementedError("Migrations go forward only: restore a backup instead.")
