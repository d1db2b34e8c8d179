"""Subscriptions, what is sent to them, and how their endpoints do."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from orchestrator.ledger.schema.base import NOTIFICATION_STATE, NOW, metadata, when

flow_subscriptions = Table(
    "flow_subscriptions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="json, slack or email"),
    Column("address", Text, nullable=False, comment="a URL, an e-mail address, or a reference to one"),
    Column("types", ARRAY(Text), nullable=False, comment="what is told"),
    Column("q", Text, nullable=False, server_default="", comment="of which runs; empty: of all"),
    Column("include", ARRAY(Text), nullable=False, comment="what is told besides"),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("why_disabled", Text, comment="where nobody did it"),
    Column("secret", Text, comment="a reference; made:N is made of the signing key; null: nothing is signed"),
    Column("fingerprint", Text, comment="of a secret that was made: whether the signing key is still the same"),
    Column("previous_secret", Text, comment="signs as well, after a rotation,"),
    Column("previous_fingerprint", Text),
    when("previous_until", comment="until then"),
    when("since", nullable=False, server_default=NOW, comment="what happened before is not told"),
    when("created_at", nullable=False, server_default=NOW),
    Column("created_by", Text, nullable=False),
    when("changed_at"),
    Column("changed_by", Text),
    Index("ix_flow_subscriptions_name", "name", unique=True),
)

flow_endpoints = Table(
    "flow_endpoints",
    metadata,
    Column("address", Text, primary_key=True, comment="as the subscriptions have it"),
    Column("failures", Integer, nullable=False, server_default="0", comment="in a row"),
    when("open_until", comment="nothing is sent before"),
)

flow_notification_feed = Table(
    "flow_notification_feed",
    metadata,
    Column("id", SmallInteger, primary_key=True, comment="1: there is one row"),
    Column("seen", Text, nullable=False, comment="a snapshot: notifications were made of all that had ended then"),
    Column("until", Text, comment="a later one, on the way to which it is,"),
    Column("tx", BigInteger, comment="after this transaction"),
    Column("event_id", BigInteger, comment="and this event of it"),
)

flow_notifications = Table(
    "flow_notifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, nullable=False),
    Column("event_id", BigInteger, comment="null: it is a test"),
    Column("run_id", Uuid),
    Column("type", Text, nullable=False),
    when("at", nullable=False, comment="when it happened"),
    Column("data", JSON, nullable=False, comment="what is told"),
    Column("state", NOTIFICATION_STATE, nullable=False, server_default="pending"),
    Column("tries", Integer, nullable=False, server_default="0", comment="that failed, since it was made or redriven"),
    Column("claims", Integer, nullable=False, server_default="0", comment="the number of the latest attempt"),
    when("due_at", nullable=False, server_default=NOW, comment="not before; of one under way: when it is lost"),
    when("claimed_until", comment="it is under way"),
    when("give_up_at", nullable=False),
    when("created_at", nullable=False, server_default=NOW),
    when("ended_at"),
    Column("status", SmallInteger, comment="what the endpoint answered last"),
    Column("error", Text, comment="what went wrong last"),
    Index("ix_flow_notifications_event", "subscription_id", "event_id", unique=True),
    Index("ix_flow_notifications_pending", "subscription_id", "due_at", postgresql_where=text("state = 'pending'")),
    Index("ix_flow_notifications_claimed", "subscription_id", postgresql_where=text("claimed_until IS NOT NULL")),
    Index("ix_flow_notifications_dead", "subscription_id", "id", postgresql_where=text("state = 'dead'")),
    Index("ix_flow_notifications_late", "give_up_at", postgresql_where=text("state = 'pending'")),
    Index("ix_flow_notifications_subscription", "subscription_id", "id"),
    Index("ix_flow_notifications_ending", text("substring(uuid_send(id), 15)")),
    Index("ix_flow_notifications_run", "run_id", postgresql_where=text("run_id IS NOT NULL")),
)

flow_notification_attempts = Table(
    "flow_notification_attempts",
    metadata,
    Column("notification_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    when("at", nullable=False, server_default=NOW, comment="when it was over"),
    Column("duration_ms", Integer, nullable=False),
    Column("status", SmallInteger),
    Column("error", Text),
)
