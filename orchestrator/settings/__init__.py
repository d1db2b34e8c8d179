"""The settings of every process, read once from the environment and passed down as values.

`Settings.from_env(os.environ)` is called by entry points only. Each field is one variable: `lease` is
ORCHESTRATOR_LEASE. A misspelt or wrong variable stops the start and names the fix; every problem is reported at once.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from orchestrator.core.access import Role
from orchestrator.core.durations import format_duration
from orchestrator.core.loopback import is_loopback
from orchestrator.core.loops import LOOP_LIMIT
from orchestrator.core.payload import CAP, THRESHOLD, StoreUrl
from orchestrator.core.suggest import closest
from orchestrator.core.webhook_triggers import SecretReference
from orchestrator.errors import SettingsInvalid
from orchestrator.payloads import Payloads
from orchestrator.settings.urls import MASK, mask_url, normalise_broker_url, normalise_database_url, site
from orchestrator.settings.values import (
    Claim,
    Count,
    Duration,
    Flag,
    Port,
    issuer,
    json_object,
    json_or_flag,
    names,
    origins,
    scopes,
    secret,
    store,
    upper,
)

PREFIX: Final = "ORCHESTRATOR_"

_HEADER: Final = r"^[A-Za-z0-9-]{1,100}$"


class Settings(BaseModel):
    """What a process needs to know from outside. Immutable; secrets are masked when printed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """PostgreSQL 15 or newer: postgresql://user:password@host:5432/database."""
    broker_url: Annotated[SecretStr, secret(normalise_broker_url)] | None = None
    """Redis or Valkey: redis://, rediss://, sentinel:// (several by `;`), valkey://, valkeys://."""
    flows: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Modules or .py files that define flows, comma separated."""

    lease: Duration = timedelta(seconds=30)
    """How long a claimed step stays its worker's without a renewal."""
    heartbeat: Duration = timedelta(seconds=10)
    """How often a worker renews its leases; at most a third of `lease`."""
    sweep_interval: Duration = timedelta(seconds=5)
    """How often the keeper looks for due timers, expired leases and lost messages."""
    redispatch_after: Duration = timedelta(seconds=15)
    """Age at which a published but unclaimed dispatch may have been lost and is published again."""
    cancel_grace: Duration = timedelta(seconds=10)
    """Time a running handler has to notice a cancellation before it is ended."""
    worker_ttl: Duration = timedelta(seconds=30)
    """A worker not seen for this long is dead; at least two heartbeats."""
    crash_limit: Count = Field(default=3, ge=0, le=1000)
    """Re-runs of one step after its process died that are not charged as attempts."""
    deploy_limit: Count = Field(default=100, ge=0, le=100_000)
    """Re-runs of one step whose worker was told to stop and ended before the step did; they do not count as crashes."""
    loop_limit: Count = Field(default=LOOP_LIMIT, ge=1000, le=10_000_000)
    """Items that one loop may have."""
    events: Literal["all", "essential"] = "all"
    """Which events are kept: all, or only those that cannot be derived from attempts, claims and dispatches."""
    secret_names: Annotated[tuple[str, ...], BeforeValidator(names)] = ()
    """Fields that are secret by their names in every flow, besides those that always are."""
    payload_store: Annotated[str, AfterValidator(store)] | None = None
    """Where long outputs are kept: file:///folder that every host mounts, or s3://bucket/folder; none: in the
    ledger."""
    payload_threshold: Count = Field(default=THRESHOLD, ge=1024, le=100_000_000)
    """Bytes of JSON from which an output goes to the store."""
    payload_cap: Count = Field(default=CAP, ge=1024, le=1_000_000_000)
    """Bytes of JSON that an output may have, where there is a store."""
    retention: Duration | None = None
    """Runs that ended this long ago are removed with their steps, outputs and events; never when it is not set."""

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

    migrate: Flag = True
    """Apply migrations at start."""
    deploy_at_start: Flag = False
    """A worker that starts makes its versions current, superseded or not."""
    database_pool_size: Count = Field(default=5, ge=1, le=1000)
    """Connections one process keeps to PostgreSQL."""
    statement_timeout: Duration = timedelta(seconds=5)
    """PostgreSQL ends a statement of the engine that takes longer."""

    api_url: str | None = None
    """Of the HTTP API, for `HttpClient` and commands: https://flows.example.com."""
    api_key: SecretStr | None = None
    """What they show the API."""

    sim_database_url: Annotated[SecretStr, secret(normalise_database_url)] | None = None
    """A server where the test kit may make databases and drop them; without it, it starts one of its own."""

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

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(upper),
    ] = "INFO"

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if problems := list(_cross_problems(self)):
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read every ORCHESTRATOR_* variable of `env`; an empty one counts as not set.

        Raises:
            SettingsInvalid: a name is unknown or a value is wrong; the message lists all of them, secrets masked.
        """
        given = {name: value for name, value in env.items() if name.startswith(PREFIX)}
        unknown = [_unknown(name) for name in sorted(given) if _field(name) not in cls.model_fields]
        values = {
            _field(name): text for name, text in given.items() if _field(name) in cls.model_fields and text.strip()
        }
        try:
            settings = cls.model_validate(values)
        except ValidationError as exc:
            problems = [line for error in exc.errors(include_url=False) for line in _lines(error, values)]
            raise SettingsInvalid("\n".join([*unknown, *problems])) from None
        if unknown:
            raise SettingsInvalid("\n".join(unknown))
        return settings

    def require_database_url(self) -> str:
        """The ledger's URL. Raises SettingsInvalid when none is set."""
        if self.database_url is None and self.api_url is not None:
            raise SettingsInvalid(
                f"This needs the database itself; {variable('api_url')} is set, and {variable('database_url')} is not. "
                f"Fix: do it where the database can be reached, and set {variable('database_url')} there."
            )
        if self.database_url is None:
            raise SettingsInvalid(_missing("DATABASE_URL", "postgresql://user:password@host:5432/database"))
        return self.database_url.get_secret_value()

    def payloads(self) -> Payloads:
        """Long outputs, as a process with these settings reads and writes them."""
        url = None if self.payload_store is None else StoreUrl.read(self.payload_store)
        return Payloads(url, self.payload_threshold, self.payload_cap)

    def require_broker_url(self) -> str:
        """The broker's URL. Raises SettingsInvalid when none is set."""
        if self.broker_url is None:
            raise SettingsInvalid(_missing("BROKER_URL", "redis://:password@host:6379/0"))
        return self.broker_url.get_secret_value()


def variable(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return PREFIX + field.upper()


def _field(name: str) -> str:
    return name.removeprefix(PREFIX).lower() if name == name.upper() else name


def _unknown(name: str) -> str:
    known = [variable(field) for field in Settings.model_fields]
    guess = closest(name.upper(), known)
    fix = f"did you mean {guess}?" if guess else f"unset it; known are {', '.join(known)}."
    return f"Unknown setting {name}. Fix: {fix}"


def _missing(suffix: str, example: str) -> str:
    return (
        f"{PREFIX}{suffix} is not set. Fix: set it, as in {PREFIX}{suffix}={example}, "
        "or run `orchestrator dev`, which brings its own servers."
    )


def _cross_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.heartbeat * 3 > settings.lease:
        problems.append(
            f"{variable('heartbeat')} is {format_duration(settings.heartbeat)}, more than a third of "
            f"{variable('lease')} ({format_duration(settings.lease)}): one late renewal would lose every lease. "
            f"Fix: raise {variable('lease')} to {format_duration(settings.heartbeat * 3)} or more, or lower "
            f"{variable('heartbeat')}."
        )
    if settings.worker_ttl < settings.heartbeat * 2:
        problems.append(
            f"{variable('worker_ttl')} is {format_duration(settings.worker_ttl)}, less than two times "
            f"{variable('heartbeat')} ({format_duration(settings.heartbeat)}): live workers would look dead. "
            f"Fix: raise {variable('worker_ttl')} to {format_duration(settings.heartbeat * 2)} or more."
        )
    if settings.beat_interval * 3 > settings.beat_lock:
        problems.append(
            f"{variable('beat_interval')} is {format_duration(settings.beat_interval)}, more than a third of "
            f"{variable('beat_lock')} ({format_duration(settings.beat_lock)}): one late beat would lose the lock. "
            f"Fix: raise {variable('beat_lock')} to {format_duration(settings.beat_interval * 3)} or more."
        )
    if settings.proxy_user_header is not None and not settings.trusted_proxies:
        problems.append(
            f"{variable('proxy_user_header')} is set, and no proxy is believed. Fix: set "
            f"{variable('trusted_proxies')} to the addresses of those that set it."
        )
    if settings.smtp_host is not None and settings.smtp_sender is None:
        problems.append(
            f"{variable('smtp_host')} is set, and no sender. Fix: set {variable('smtp_sender')}=flows@example.com."
        )
    if settings.smtp_user is not None and (settings.smtp_password is None or settings.smtp_security == "none"):
        problems.append(
            f"{variable('smtp_user')} is set, and {variable('smtp_password')} is not, or would go in the open. Fix: "
            f"set it to env:NAME or file:/path, and {variable('smtp_security')} to starttls or tls."
        )
    problems += _lacks_for_oidc(settings)
    problems += _open_to_others(settings)
    problems += _no_master("broker_url", settings.broker_url, "broker_transport_options", settings)
    problems += _no_master("redbeat_url", settings.redbeat_url, "redbeat_options", settings)
    return problems


def _open_to_others(settings: Settings) -> list[str]:
    """A proxy on this machine brings everybody, and need not say so."""
    if settings.auth != "open":
        return []
    public = settings.public_url is not None and not is_loopback(urlsplit(settings.public_url).hostname)
    given = [name for name in ("proxy_depth", "trusted_proxies") if getattr(settings, name)]
    return [
        f"{variable('auth')}=open would let in everybody whom a proxy brings, and {variable(name)} is set. Fix: unset "
        "one of them; behind a proxy people and programs need keys."
        for name in [*given, *(["public_url"] if public else [])]
    ]


def _lacks_for_oidc(settings: Settings) -> list[str]:
    if settings.oidc_issuer is None:
        return []
    needed = {
        "oidc_client_id": "what the provider knows the API by",
        "public_url": "where it sends people back to: the address of the API",
        "group_roles": "which group of it has which role; without, nobody could sign in",
    }
    return [
        f"{variable('oidc_issuer')} is set, and {variable(field)} is not. Fix: set it to {what}."
        for field, what in needed.items()
        if not getattr(settings, field)
    ]


def _no_master(field: str, url: SecretStr | None, options: str, settings: Settings) -> list[str]:
    if (
        url is None
        or not url.get_secret_value().startswith("sentinel")
        or getattr(settings, options).get("master_name")
    ):
        return []
    return [
        f"{variable(field)} names Sentinels, but no master. "
        f"""Fix: set {variable(options)}='{{"master_name": "main"}}'."""
    ]


def _lines(error: ErrorDetails, values: Mapping[str, str]) -> list[str]:
    if not error["loc"]:
        return str(error["ctx"]["error"]).split("\n")
    field = str(error["loc"][0])
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else _plain(error)
    return [f"{variable(field)}={_shown(field, values[field])} cannot be used: {_ended(reason)}"]


def _plain(error: ErrorDetails) -> str:
    """Pydantic's own message as the rest of our sentence."""
    text = error["msg"].removeprefix("Input ").removesuffix(".")
    return f"it {text}. Fix: write a value that does"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _shown(field: str, value: str) -> str:
    if field.endswith("_url"):
        return repr(mask_url(value))
    if field in {
        "broker_transport_options",
        "broker_use_ssl",
        "redbeat_options",
        "smtp_password",
        "oidc_client_secret",
    }:
        return MASK  # may hold a password, if not of the field, then of a Sentinel or a key
    return repr(value)
