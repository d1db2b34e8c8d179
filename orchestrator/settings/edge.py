"""Settings: the HTTP API, where it is, whom it lets in, and how much."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from orchestrator.core.access import Role
from orchestrator.core.webhook_triggers import SecretReference
from orchestrator.settings.urls import site
from orchestrator.settings.values import Claim, Count, Duration, issuer, json_object, names, origins, scopes

_HEADER: Final = r"^[A-Za-z0-9-]{1,100}$"


class Edge(BaseModel):
    """The HTTP API: where it is, whom it lets in, and how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_url: str | None = None
    """Of the HTTP API, for `HttpClient` and commands: https://flows.example.com."""
    api_key: SecretStr | None = None
    """What they show the API."""
    auth: Literal["keys", "open"] = "keys"
    """Whom the API lets in: who has a key or a session; or everybody on this machine."""
    authorizer: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """A function of one's own that decides who may do what, as module:name."""
    session_lifetime: Duration = timedelta(hours=12)
    """How long somebody who signed in stays so."""
    oidc_issuer: Annotated[str, AfterValidator(issuer)] | None = None
    """A provider of identities where people sign in, as it writes itself: https://login.example.com/realms/ops."""
    oidc_client_id: str | None = None
    """What it knows the API by."""
    oidc_client_secret: SecretReference | None = None
    """Where the secret is that it knows the API by: env:NAME or file:/path; none, if it takes none."""
    oidc_scopes: Annotated[tuple[str, ...], BeforeValidator(names), AfterValidator(scopes)] = ("openid", "profile")
    """What the API asks it for, comma separated; `openid` is always."""
    oidc_name_claim: Claim = "preferred_username"
    """The claim with the name that somebody has here."""
    oidc_groups_claim: Claim = "groups"
    """The claim with their groups; `a.b` is `b` in `a`."""
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Addresses of proxies that are believed, comma separated: 10.0.0.0/8, 192.0.2.1."""
    proxy_depth: Count = Field(default=0, ge=0, le=10)
    """How many trusted proxies stand in front of the API: the client's address is that many places from the right of
    X-Forwarded-For."""
    proxy_user_header: Annotated[str, Field(pattern=_HEADER)] | None = None
    """The header in which a trusted proxy says who it has signed in."""
    proxy_groups_header: Annotated[str, Field(pattern=_HEADER)] | None = None
    """The header in which it says their groups, comma separated."""
    group_roles: Annotated[dict[str, Role], BeforeValidator(json_object)] = {}
    """Group to role, as JSON such as {"on-call": "operator", "*": "viewer"}; `*` is everybody."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(names), AfterValidator(origins)] = ()
    """Sites whose pages may use the API with a key, comma separated."""
    api_replicas: Count = Field(default=1, ge=1, le=1000)
    """How many processes serve the API: while Redis is away, each gives out that part of the rates."""
    rate_reads: Count = Field(default=600, ge=0, le=1_000_000)
    """Requests that look, per minute for each key or session; 0: no limit. So for all rates."""
    rate_writes: Count = Field(default=100, ge=0, le=1_000_000)
    """Requests that change something, but for those that follow."""
    rate_triggers: Count = Field(default=30, ge=0, le=1_000_000)
    """Requests that start runs; a batch counts once."""
    rate_webhooks: Count = Field(default=10, ge=0, le=1_000_000)
    """Requests that make webhooks."""
    rate_keys: Count = Field(default=5, ge=0, le=1_000_000)
    """Requests that make keys."""
    rate_sign_ins: Count = Field(default=10, ge=0, le=1_000_000)
    """Tries to sign in, for each name and address."""
    rate_strangers: Count = Field(default=60, ge=0, le=1_000_000)
    """Requests without a key that works, for each address."""
    waits_per_caller: Count = Field(default=100, ge=0, le=100_000)
    """Requests with `?wait=` that one key or session may have open at one process of the API; 0: any number."""
    public_url: Annotated[str, AfterValidator(site)] | None = None
    """Where people reach the API, as https://flows.example.com, if that is not where it listens."""
    health_budget: Duration = timedelta(seconds=5)
    """How long the API's answer about health waits for its checks."""
    shutdown_delay: Duration = timedelta(seconds=2)
    """How long the API goes on serving after SIGTERM while it says that it is not ready."""
