"""A Redis client of our own, beside kombu: of one server, or of whichever one the Sentinels name."""

from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from orchestrator.servers.broker import sentinel_timeouts, tls
from orchestrator.settings import Settings

_SENTINEL_PORT: Final = 26379
_SHARED: Final = ("master_name", "sentinel_kwargs", "health_check_interval")


def one_place(url: str, options: dict[str, Any] | None) -> str:
    """One server, or Sentinels by `;`; with TLS `options` it begins with rediss. Of several servers the first: kombu
    goes on to the next when it is away, and what is kept or published in Redis is in one place."""
    if url.startswith("sentinel"):
        return url
    first = url.split(";")[0]
    return first.replace("redis://", "rediss://", 1) if options else first


def shared_options(settings: Settings) -> dict[str, Any]:
    """Of kombu's options, those that say how the broker is reached."""
    broker = settings.broker_transport_options
    return {name: value for name, value in broker.items() if name in _SHARED or name.startswith("socket_")}


def made(url: str, options: dict[str, Any]) -> "redis.Redis":
    """A client that has sent nothing yet. It tries once more when a connection turns out to be dead, and no longer.

    Raises:
        TypeError, ValueError, AttributeError, KeyError: the options do not fit.
    """
    kwargs = {"decode_responses": True, "retry": Retry(NoBackoff(), 1), **options}
    return _watched(url, kwargs) if url.startswith("sentinel") else _plain(url, kwargs)


def broker_client(settings: Settings, **options: Any) -> "redis.Redis":
    """A client of the broker's server; `options` win."""
    found = settings.require_broker_url()
    secure = tls(settings, found)
    return made(one_place(found, secure), {**shared_options(settings), **(secure or {}), **options})


def _plain(url: str, kwargs: dict[str, Any]) -> "redis.Redis":
    for name in ("master_name", "sentinel_kwargs"):
        kwargs.pop(name, None)
    return redis.Redis.from_url(url, **kwargs)


def _watched(url: str, kwargs: dict[str, Any]) -> "redis.Redis":
    parts = [urlsplit(part) for part in url.split(";")]
    first = parts[0]
    about_sentinels = {**sentinel_timeouts(), **(kwargs.pop("sentinel_kwargs", None) or {})}
    name = kwargs.pop("master_name")
    if "ssl_cert_reqs" in kwargs:
        kwargs["ssl"] = True
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(part.hostname or "localhost", part.port or _SENTINEL_PORT) for part in parts],
        sentinel_kwargs=about_sentinels,
        **{
            "db": int(first.path.strip("/") or 0),
            "username": unquote(first.username) if first.username else None,
            "password": unquote(first.password) if first.password else None,
            **kwargs,
        },
    )
    found: redis.Redis = sentinel.master_for(name)
    return found
