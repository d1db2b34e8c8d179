"""A connection to Redis for hints. Nobody ever waits for it: a thread of its own makes it."""

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import redis

from orchestrator import forks
from orchestrator.observe.logs import log
from orchestrator.servers.diagnosis import one_line
from orchestrator.servers.redis_client import broker_client
from orchestrator.settings import Settings

_FIRST_REST_S: Final = 0.1
_LONGEST_REST_S: Final = 10.0
_OPTIONS: Final = {
    "socket_connect_timeout": 5,
    "socket_timeout": 2,  # how long a send to a paused server waits, once its buffer is full
    "socket_keepalive": True,
    "health_check_interval": 0,  # it would wait for an answer
    "protocol": 2,
}
ERRORS: Final = (redis.RedisError, OSError)
"""What a connection that fails raises."""


class Line:
    """Made at first use, and again, with growing pauses, after it was lost. That is logged once, and once that it is
    back. Safe to use from several threads; the connection itself is for one at a time."""

    def __init__(self, settings: Settings, ready: Callable[[], None]) -> None:
        """`ready` is called by a thread of the line's once there is a connection."""
        self._settings = settings
        self._ready = ready
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._client: Any = None
        self._connection: Any = None
        self._maker: threading.Thread | None = None
        """The last one."""
        self._connecting = False
        self._failures = 0
        """Since it last worked."""
        self._away = False
        """Whether that was logged."""
        self._again_at = 0.0
        self._closed = self._settings.broker_url is None

    def after_fork(self) -> None:
        """See `forks.Forked`: the connection is the parent's."""
        forks.inherited(self._client, self._connection)
        self._begin()

    def get(self) -> Any | None:
        """The connection (redis-py's), if there is one; otherwise one is on its way, or rests after a failure."""
        with self._lock:
            rests = self._connecting or self._closed or monotonic() < self._again_at
            if self._connection is None and not rests:
                self._connecting = True
                self._maker = threading.Thread(target=self._make, name="hints-connect", daemon=True)
                self._maker.start()
            return self._connection

    @property
    def coming(self) -> bool:
        """Whether one is being made, and nothing says that this will fail."""
        return self._connecting and not self._failures

    def works(self) -> None:
        """The server answered on it."""
        self._failures = 0
        if self._away:
            self._away = False
            log.info("hints.back")

    def lost(self, connection: Any, exc: BaseException) -> None:
        """The connection failed; its user must not use it any more."""
        with self._lock:
            if self._connection is not connection:
                return
            self._connection = None
            worked = not self._failures
        self._close(connection)
        self._failed(exc, worked=worked)

    def let_go(self) -> None:
        """It is not used for a while; another one is made when it is."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            self._close(connection)

    def settle(self, patience_s: float) -> None:
        """Wait until a connection that is on its way is there, and `ready` was called, or the patience ends."""
        maker = self._maker
        if maker is not None:
            maker.join(patience_s)

    def close(self) -> None:
        """Nothing is made afterwards. For whoever uses the connection: nobody else may be using it now."""
        with self._lock:
            self._closed = True
        self.let_go()

    def _make(self) -> None:
        try:
            made = self._connected()
        finally:
            with self._lock:
                self._connecting = False
        if made:
            self._ready()

    def _connected(self) -> bool:
        try:
            client = broker_client(self._settings, **_OPTIONS)
            connection: Any = client.connection_pool.make_connection()
            connection.connect()
        except Exception as exc:  # also options that the client does not take: there are no hints, then
            self._failed(exc)
            return False
        with self._lock:
            closed = self._closed
            if not closed:
                self._client, self._connection = client, connection
        if closed:
            self._close(connection)
        return not closed

    def _failed(self, exc: BaseException, *, worked: bool = False) -> None:
        """One that `worked` is made again at once, without a log line: a server may close what is idle."""
        with self._lock:
            rest_s = 0.0 if worked else min(_FIRST_REST_S * 2**self._failures, _LONGEST_REST_S)
            self._again_at = monotonic() + rest_s
            self._failures = min(self._failures + 1, 10)
            news = not worked and not self._away
            self._away = self._away or news
        if news:
            reason = one_line(f"{type(exc).__name__}: {exc}")
            log.warning("hints.away", extra={"error": reason, "what": "ends of runs are seen later"})

    @staticmethod
    def _close(connection: Any) -> None:
        with suppress(*ERRORS):
            connection.disconnect()
