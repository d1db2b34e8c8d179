"""Settings: the broker, and the beat that announces scheduled times."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from orchestrator.settings.urls import normalise_broker_url
from orchestrator.settings.values import Count, Duration, Flag, json_object, json_or_flag, secret


class Redis(BaseModel):
    """The broker, and the beat that announces scheduled times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker_url: Annotated[SecretStr, secret(normalise_broker_url)] | None = None
    """Redis or Valkey: redis://, rediss://, sentinel:// (several by `;`), valkey://, valkeys://."""
    key_prefix: str = Field(default="orchestrator:", max_length=64, pattern=r"^[A-Za-z0-9_.:-]*$")
    """Put before every key in Redis, so that several installations can share one server."""
    ack_emulation: Flag = False
    """Celery's emulation of acknowledgements on Redis; the ledger does without it."""
    prefetch_multiplier: Count = Field(default=4, ge=1, le=1000)
    """Messages a worker takes ahead, per slot of its pool."""
    broker_transport_options: Annotated[dict[str, Any], BeforeValidator(json_object)] = Field(default={}, repr=False)
    """Handed to kombu as JSON, such as {"master_name": "main"} for Sentinel."""
    broker_use_ssl: Annotated[dict[str, Any] | bool, BeforeValidator(json_or_flag)] = Field(default=False, repr=False)
    """TLS: true, or JSON such as {"ssl_ca_certs": "/etc/ca.pem"}. Certificates are checked, with rediss:// anyway."""
    redbeat_url: Annotated[SecretStr, secret(normalise_broker_url)] | None = None
    """Where RedBeat keeps its entries and its lock; the broker, when it is not set."""
    redbeat_options: Annotated[dict[str, Any], BeforeValidator(json_object)] = Field(default={}, repr=False)
    """Handed to RedBeat's Redis client as JSON, such as {"master_name": "main"}; those of the broker come first where
    it is the broker."""
    beat_lock: Duration = timedelta(seconds=15)
    """How long a beat that fell silent keeps the others waiting; at least three beat intervals."""
    beat_interval: Duration = timedelta(seconds=2)
    """The longest pause of a beat; also how often a standby asks for the lock."""
    reconcile_interval: Duration = timedelta(seconds=30)
    """How often a beat compares every entry in Redis with the ledger."""
    watchdog_interval: Duration = timedelta(seconds=5)
    """How often a worker looks for ticks that no beat announced."""
    tick_grace: Duration = timedelta(seconds=5)
    """How late a tick is when a worker stops waiting for the beat."""
