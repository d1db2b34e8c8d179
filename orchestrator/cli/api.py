"""`orchestrator api`: the HTTP API."""

import os
from typing import Annotated

import typer

from orchestrator.errors import UsageError
from orchestrator.settings import Settings


def api(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    address: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    root_path: Annotated[str, typer.Option(help="Path under which a proxy serves it.")] = "",
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Serve the HTTP API until SIGTERM. Any number of replicas may run.

    Needs ORCHESTRATOR_DATABASE_URL; with ORCHESTRATOR_BROKER_URL, steps are sent at once.
    """
    settings = Settings.from_env(os.environ)
    settings.require_database_url()
    try:
        from orchestrator.http.server import serve
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("orchestrator"):
            raise
        raise UsageError(f"The API needs {exc.name}. Fix: pip install 'flow-orchestrator[api]'.") from exc
    serve(settings, address, port, root_path=root_path, log_level=log_level)
