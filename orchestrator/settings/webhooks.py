"""Settings: webhooks that come, and what is told to subscriptions."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from orchestrator.core.webhook_triggers import SecretReference
from orchestrator.settings.values import Duration, Flag, Port, names


class Webhooks(BaseModel):
    """Webhooks that come, and what is told to subscriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook_mode: Literal["off", "audit", "enforce"] = "enforce"
    """What the gates of webhooks do that have no mode of their own: nothing, tell, or refuse."""
    webhook_retention: Duration = timedelta(days=30)
    """Deliveries of webhooks that came this long ago are removed."""
    webhook_networks: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Addresses of one's own that are not public and to which webhooks may be sent, comma separated; with `!`, public
    ones to which none may."""
    webhook_plain_http: Flag = False
    """Webhooks may be sent without TLS."""
    webhook_ports: Annotated[tuple[Port, ...], BeforeValidator(names)] = (80, 443, 8080, 8443)
    """Ports to which webhooks may be sent, comma separated."""
    signing_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    """What the secrets of subscriptions are made of: 32 random characters or more, or file:/path; the same for workers
    and the API."""
    notification_give_up_after: Duration = timedelta(days=3)
    """How long it is tried to tell a subscription something."""
    notification_retention: Duration = timedelta(days=30)
    """What subscriptions were told this long ago is removed."""
    smtp_host: str | None = None
    """The server that takes e-mail of webhooks."""
    smtp_port: Port = 587
    """Its port."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How it is spoken to: TLS after a word in the open, TLS from the start (port 465), or none."""
    smtp_user: str | None = None
    """Who signs in to it; nobody, when it is not set."""
    smtp_password: SecretReference | None = None
    """A reference to the password, as `env:NAME` or `file:/path`."""
    smtp_sender: Annotated[str, Field(pattern=r"^[^\s@<>,;\"]+@[A-Za-z0-9.-]+$")] | None = None
    """The address that e-mail comes from: flows@example.com."""
