"""Settings that are right one by one, and do not fit together: one line each, with the fix."""

from urllib.parse import urlsplit

from pydantic import SecretStr

from orchestrator.core.durations import format_duration
from orchestrator.core.loopback import is_loopback
from orchestrator.settings.fields import Fields
from orchestrator.settings.names import variable


def misfits(settings: Fields) -> list[str]:
    """What does not fit, for `SettingsInvalid`."""
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
    if settings.database_url is None:
        problems += [
            f"{variable(field)} is set, and {variable('database_url')} is not. Fix: set both, or none."
            for field in ("database_pooler", "database_direct_url", "database_read_url")
            if getattr(settings, field) not in (None, "none")
        ]
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


def _open_to_others(settings: Fields) -> list[str]:
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


def _lacks_for_oidc(settings: Fields) -> list[str]:
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


def _no_master(field: str, url: SecretStr | None, options: str, settings: Fields) -> list[str]:
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
