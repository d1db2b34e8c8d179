"""`orchestrator exporter`: gauges of the whole installation, for Prometheus."""

import os
from typing import Annotated

import typer

from orchestrator.core.listen_address import ListenAddress
from orchestrator.errors import UsageError
from orchestrator.settings import Settings


def exporter(
    address: Annotated[str, typer.Option(help="Where to listen; :9464 is every address of this machine.")] = (
        "127.0.0.1:9464"
    ),
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Serve the ledger's gauges at /metrics until SIGTERM. One is enough; several show the same.

    Needs ORCHESTRATOR_DATABASE_URL; with ORCHESTRATOR_BROKER_URL it says whether a beat runs.
    """
    settings = Settings.from_env(os.environ)
    settings.require_database_url()
    try:
        where = ListenAddress.read(address)
    except ValueError as exc:
        raise UsageError(f"--address {address!r} cannot be used: {exc}.") from exc
    from orchestrator.exporter.serve import serve

    serve(settings, where, log_level)
