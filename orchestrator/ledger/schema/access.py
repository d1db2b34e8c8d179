"""Who may come in through the API, and what they did."""

from sqlalchemy import BigInteger, Column, Identity, Index, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from orchestrator.ledger.schema.base import NOW, metadata, when

flow_api_keys = Table(
    "flow_api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="the part of the key that is no secret"),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False, comment="empty: all that the role may"),
    Column("flows", ARRAY(Text), nullable=False, comment="empty: every flow"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the secret"),
    when("created_at", nullable=False, server_default=NOW),
    Column("created_by", Text, nullable=False),
    when("expires_at"),
    when("last_used_at", comment="to the minute"),
    when("revoked_at"),
    Column("revoked_by", Text),
    Column("replaced_by", Text, comment="the key that a rotation made of it"),
    Index(
        "ix_flow_api_keys_name",
        "name",
        unique=True,
        postgresql_where=text("revoked_at IS NULL AND replaced_by IS NULL"),
    ),
)

flow_users = Table(
    "flow_users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("groups", ARRAY(Text), nullable=False, comment="as the provider of identities said last"),
    Column("password_hash", Text, comment="none: they come from a provider of identities"),
    when("created_at", nullable=False, server_default=NOW),
    Column("created_by", Text, nullable=False),
    when("disabled_at"),
    when("signed_in_at", comment="last"),
    Column("issuer", Text, comment="the provider that they come from; none: they have a password"),
    Column("subject", Text, comment="who they are there, for good"),
    Index(
        "ix_flow_users_identity",
        "issuer",
        "subject",
        unique=True,
        postgresql_where=text("issuer IS NOT NULL"),
    ),
)

flow_sign_ins = Table(
    "flow_sign_ins",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="of what the browser and the provider bring back"),
    Column("next", Text, nullable=False, comment="the path to go to then"),
    when("expires_at", nullable=False, index=True),
)

flow_sessions = Table(
    "flow_sessions",
    metadata,
    Column("id", Text, primary_key=True, comment="the part of the token that is no secret"),
    Column("user_name", Text, nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the secret"),
    Column("method", Text, nullable=False, comment="password or oidc"),
    when("created_at", nullable=False, server_default=NOW),
    when("expires_at", nullable=False, index=True),
    Column("address", Text),
    Column("agent", Text, comment="what the browser called itself"),
)

flow_audit = Table(
    "flow_audit",
    metadata,
    Column("id", BigInteger, Identity(always=True, cache=1), primary_key=True),
    when("at", nullable=False, server_default=NOW),
    Column("actor", Text, nullable=False),
    Column("key_id", Text, comment="the API key or the session"),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("was", JSONB),
    Column("became", JSONB),
    Column("reason", Text),
    Column("address", Text),
    Column("request_id", Text),
    Index("ix_flow_audit_target", "target", "id"),
    Index("ix_flow_audit_at", "at"),
)
