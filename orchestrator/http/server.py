"""The process that serves the API."""

import socket
from typing import Final

import uvicorn

from orchestrator.errors import UsageError
from orchestrator.http.app import create_app
from orchestrator.http.auth import may_start
from orchestrator.ledger import migrate
from orchestrator.observe import logs
from orchestrator.settings import Settings

_GRACE_S: Final = 30
"""Open requests have so long to end after SIGTERM."""


def serve(settings: Settings, address: str, port: int, *, root_path: str = "", log_level: str | None = None) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        UsageError: the address cannot be listened on.
        SettingsInvalid: everybody would be let in.
        SchemaBehind, Unavailable: the ledger is not ready.
    """
    may_start(settings, address)
    logs.setup(log_level or settings.log_level)
    if settings.migrate:
        migrate.upgrade(settings.require_database_url())
    listening = _listening(address, port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # a line of our own has the request's id
        proxy_headers=False,  # believed of nobody: see who may say them
        server_header=False,
        root_path=root_path,
        timeout_graceful_shutdown=_GRACE_S,
    )
    host, bound = listening.getsockname()[:2]
    print(f"API on http://{f'[{host}]' if ':' in host else host}:{bound}{root_path}/api", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _listening(address: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=512)
    except (OSError, OverflowError) as exc:
        raise UsageError(f"{address}:{port} cannot be listened on: {exc}. Fix: choose another --port.") from exc
