"""The process that serves the API."""

import gc
import math
import signal
import socket
from datetime import timedelta
from time import monotonic
from types import FrameType
from typing import Final

import uvicorn
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import UsageError
from orchestrator.http.app import create_app
from orchestrator.http.auth import may_start
from orchestrator.http.connections import Connection
from orchestrator.http.stopping import Stopping
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger, is_disconnect
from orchestrator.observe import logs
from orchestrator.settings import Settings

_GRACE_S: Final = 30
"""Open requests have so long to end after SIGTERM."""
_IDLE_S: Final = 75
"""A connection is kept open so long between requests: longer than balancers and clients do, which else send a request
on one that is just being closed."""


def serve(settings: Settings, address: str, port: int, *, root_path: str = "", log_level: str | None = None) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        UsageError: the address cannot be listened on.
        SettingsInvalid: everybody would be let in.
        SchemaBehind, Unavailable: the ledger is not ready.
        PoolerUnfit: a pooler stands before it in a way that was not declared.
    """
    may_start(settings, address)
    logs.setup(log_level or settings.log_level, settings.log_format, burst=settings.log_burst)
    if settings.migrate:
        migrate.upgrade(*settings.direct())
    _prove(settings)
    listening = _listening(address, port)
    app = create_app(settings)
    gc.freeze()  # or a body of many small lists makes the collector walk the whole program again and again
    config = uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=False,  # a line of our own has the request's id
        proxy_headers=False,  # believed of nobody: see who may say them
        server_header=False,
        root_path=root_path,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_IDLE_S,
    )
    host, bound = listening.getsockname()[:2]
    print(f"API on http://{f'[{host}]' if ':' in host else host}:{bound}{root_path}/api", flush=True)
    _Server(config, app.state.stopping, settings.shutdown_delay).run(sockets=[listening])


def _prove(settings: Settings) -> None:
    """A database that is away is waited for, and seen in health; one that is reached in the wrong way is told now."""
    ledger = Ledger.connect(
        settings.require_database_url(), reach=settings.reach(), pool_size=1, name="orchestrator start"
    )
    try:
        ledger.prove()
    except DBAPIError as exc:
        if not is_disconnect(exc):
            raise
    finally:
        ledger.close()


class _Server(uvicorn.Server):
    """After SIGTERM it says that it is not ready, and serves on until whoever distributes requests has seen that. Then
    it takes none, and ends what is open. A second signal, or SIGINT, ends it without the pause."""

    def __init__(self, config: uvicorn.Config, stopping: Stopping, delay: timedelta) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._delay_s = delay.total_seconds()
        self._leave_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        if sig == signal.SIGTERM and not self._stopping.announced:
            self._stopping.announced = True
            self._leave_at = monotonic() + self._delay_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        self.should_exit = self.should_exit or monotonic() >= self._leave_at
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no connection any more, and end."""
        self._stopping.end()
        await super().shutdown(sockets)


def _listening(address: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=512)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"{address}:{port} cannot be listened on: {exc}. Fix: choose another --port.") from exc
