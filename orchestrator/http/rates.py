"""How much one may ask for: counted in Redis, for all replicas together. While Redis is away each process counts for
itself, and gives out its share."""

import hashlib
import math
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import redis
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter, RateLimiter

from orchestrator.observe.logs import log
from orchestrator.servers.redis_client import broker_client
from orchestrator.settings import Settings

MINUTE: Final = timedelta(minutes=1)
_ANSWERS_S: Final = 0.25
_AGAIN_S: Final = 5.0
"""How long Redis is not asked after it failed: nobody's request waits for it meanwhile."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One more of a bucket, or none: then `allowed` is false. `left`: how many there are still; `reset_s`: when the
    first one comes back."""

    allowed: bool
    limit: int
    left: int
    reset_s: int

    @property
    def retry_after_s(self) -> int:
        return max(self.reset_s, 1)


class Rates:
    """One per process; safe to use from several threads. A window of time moves with the clock, so that a burst at the
    turn of a minute gets no more than a minute's."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is sent yet."""
        self._replicas = settings.api_replicas
        self._client = (
            None
            if settings.broker_url is None
            else broker_client(settings, socket_timeout=_ANSWERS_S, socket_connect_timeout=_ANSWERS_S)
        )
        self._shared = None if self._client is None else _limiter(self._client, settings.key_prefix)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._lock = threading.Lock()
        self._away_until = 0.0

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def hit(self, bucket: str, limit: int, per: timedelta = MINUTE) -> int | None:
        """Take one; None if there was one, else the seconds after which to come again."""
        taken = self.take(bucket, limit, per)
        return None if taken.allowed else taken.retry_after_s

    def take(self, bucket: str, limit: int, per: timedelta = MINUTE) -> Taken:
        """Take one of `limit` per `per`. Never fails: see the top of this module."""
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                taken = _take(self._shared, bucket, limit, per)
            except (redis.RedisError, OSError) as exc:
                self._lost(exc)
            else:
                self._back()
                return taken
        return _take(self._own, bucket, max(limit // self._replicas, 1), per)

    def _lost(self, exc: Exception) -> None:
        with self._lock:
            first, self._away_until = self._away_until == 0, time.monotonic() + _AGAIN_S
        if first:
            facts = {"error": str(exc)[:200], "share": f"1/{self._replicas}"}
            log.warning("api.rates_local", extra=facts)

    def _back(self) -> None:
        if self._away_until:
            self._away_until = 0.0
            log.info("api.rates_shared")


def _limiter(client: "redis.Redis", prefix: str) -> RateLimiter:
    # With a pool of its own making it could not find the master that Sentinels name.
    storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix=f"{prefix}rate")
    return MovingWindowRateLimiter(storage)


def _take(limiter: RateLimiter, bucket: str, limit: int, per: timedelta) -> Taken:
    item = RateLimitItemPerSecond(limit, max(math.ceil(per.total_seconds()), 1))
    allowed = limiter.hit(item, bucket)
    stats = limiter.get_window_stats(item, bucket)
    reset_s = min(max(math.ceil(stats.reset_time - time.time()), 0), item.get_expiry())
    return Taken(allowed, limit, max(stats.remaining, 0) if allowed else 0, reset_s)


def bucket_of(kind: str, *whose: str | None) -> str:
    """The name of a bucket: it is as long as any other, and shows nobody's name."""
    digest = hashlib.sha256("\0".join(one or "" for one in whose).encode()).hexdigest()[:32]
    return f"{kind}:{digest}"
