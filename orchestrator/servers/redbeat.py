"""How RedBeat's Redis is reached: the broker's, unless ORCHESTRATOR_REDBEAT_URL names another."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis

from orchestrator.errors import SettingsInvalid, Unavailable
from orchestrator.servers.broker import check_files, readable, tls
from orchestrator.servers.diagnosis import broker_fix, broker_refuses, one_line
from orchestrator.servers.redis_client import made, one_place, shared_options
from orchestrator.settings import Settings, variable
from orchestrator.settings.urls import mask_url


def prefix(settings: Settings) -> str:
    """What every key of RedBeat begins with."""
    return f"{settings.key_prefix}redbeat:"


def lock_key(settings: Settings) -> str:
    """Where RedBeat keeps its lock: the beat that holds it sends the ticks."""
    return f"{prefix(settings)}:lock"


def url(settings: Settings) -> str:
    """One server, or Sentinels by `;`; with TLS it begins with rediss."""
    if settings.redbeat_url is not None:
        found = settings.redbeat_url.get_secret_value()
    else:
        found = settings.require_broker_url()
    return one_place(found, _tls(settings, found))


def options(settings: Settings) -> dict[str, Any]:
    """What the client is made with, `master_name` and `sentinel_kwargs` included. The user's options win."""
    given = dict(settings.redbeat_options)
    if settings.redbeat_url is None:
        given = {**shared_options(settings), **given}
    return {
        "socket_keepalive": True,
        "socket_timeout": 5,  # less than the lock, so that a dead connection is noticed before it is lost
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        **given,
    }


def _tls(settings: Settings, found: str) -> dict[str, Any] | None:
    if settings.redbeat_url is not None and found.startswith("redis:"):
        return None
    return tls(settings, found)


def client(settings: Settings) -> "redis.Redis":
    """A client that has sent nothing yet. It tries once more when a connection turns out to be dead, and no longer.

    Raises:
        SettingsInvalid: an option is unknown to the client.
    """
    found, given = url(settings), options(settings)
    try:
        made_client = made(found, {**(_tls(settings, found) or {}), **given})
        made_client.connection_pool.make_connection()  # complains of unknown options; opens nothing
    except (TypeError, ValueError, AttributeError) as exc:
        field = variable("redbeat_options" if settings.redbeat_options else "broker_transport_options")
        raise SettingsInvalid(
            f"{field} does not fit RedBeat's Redis client: {one_line(exc)}. Fix: write options of redis-py, such as "
            f'{{"socket_timeout": 5}}.'
        ) from exc
    return made_client


def check(settings: Settings) -> None:
    """Check that it answers.

    Raises:
        SettingsInvalid: a file of the TLS options cannot be read, or an option is unknown.
        Unavailable: it does not answer; `refused` says that waiting will not help.
    """
    own = settings.redbeat_options
    query = dict(parse_qsl(urlsplit(url(settings)).query)) if settings.redbeat_url else {}
    readable({"redbeat_url": query, "redbeat_options": {**(own.get("sentinel_kwargs") or {}), **own}})
    check_files(settings)
    asked = client(settings)
    try:
        asked.ping()
    except (redis.RedisError, OSError) as exc:
        reason = one_line(exc)
        fix = broker_fix(reason)
        if settings.redbeat_url is not None:
            fix = fix.replace(variable("broker_url"), variable("redbeat_url"))
            fix = fix.replace(variable("broker_transport_options"), variable("redbeat_options"))
        raise Unavailable(
            f"RedBeat's Redis at {mask_url(url(settings))} does not answer: {reason}. Fix: {fix}",
            fix=fix,
            refused=broker_refuses(reason),
        ) from exc
    finally:
        asked.close()
