"""Counts of what comes, shared by all API processes in Redis; while that is away, each has its own."""

import threading
from datetime import timedelta
from time import monotonic, time
from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import MovingWindowRateLimiter

from orchestrator.observe.logs import log
from orchestrator.servers.redis_client import broker_client
from orchestrator.settings import Settings

_PATIENCE_S: Final = 1.0
_REST_S: Final = 5.0
"""After it was away, Redis is asked again so much later: each request would wait for it."""


class Rates:
    """A moving window for each bucket. `share`: of a limit, what one process lets in while Redis is away."""

    def __init__(self, shared: Storage | None, share: float = 1.0) -> None:
        self._shared = None if shared is None else MovingWindowRateLimiter(shared)
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._share = share
        self._rests_until = 0.0
        self._lock = threading.Lock()

    def hit(self, bucket: str, limit: int, per: timedelta) -> int | None:
        """Count one; None if it is within the limit, else the seconds after which to come again."""
        if self._shared is not None and monotonic() >= self._rests_until:
            try:
                return _hit(self._shared, bucket, limit, per)
            except Exception as exc:  # whatever the client of Redis raises
                with self._lock:
                    self._rests_until = monotonic() + _REST_S
                log.warning("rates.away", extra={"error": str(exc)[:200], "share": self._share})
        return _hit(self._local, bucket, max(1, round(limit * self._share)), per)


def rates_of(settings: Settings) -> Rates:
    """Shared where there is a broker. Nothing is sent before the first is counted."""
    if settings.broker_url is None:
        return Rates(None)
    client = broker_client(
        settings, decode_responses=False, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
    )
    return Rates(RedisStorage("redis://", client.connection_pool, f"{settings.key_prefix}rates"))


def _hit(limiter: MovingWindowRateLimiter, bucket: str, limit: int, per: timedelta) -> int | None:
    item = RateLimitItemPerSecond(limit, max(1, round(per.total_seconds())))
    if limiter.hit(item, bucket):
        return None
    stats = limiter.get_window_stats(item, bucket)
    return max(1, round(stats.reset_time - time()))
