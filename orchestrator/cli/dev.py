"""`orchestrator dev`: everything on one machine."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from orchestrator.cli.options import FlowSources, settings, sources
from orchestrator.cli.render import note


def dev(
    flows: FlowSources = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    pool: Annotated[str, typer.Option(help="prefork or threads.")] = "prefork",
    concurrency: Annotated[int, typer.Option(help="Steps at a time, per worker.")] = 2,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the servers keep their data; else .orchestrator here.")
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(help="N: PostgreSQL listens on N, Valkey on N+1, Flower on N+2, the API on N+3; else free ports."),
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table, or json: one line.")] = "table",
) -> None:
    """Start PostgreSQL, Valkey, a worker, a beat, the HTTP API and Flower here, until Ctrl-C.

    ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL replace the embedded servers.
    """
    from orchestrator.dev import DevOptions, run_dev

    if settings().api_url is not None:
        note("ORCHESTRATOR_API_URL is set: commands of such a shell ask that API, and not this one.")
    options = DevOptions(
        flows=sources(flows),
        workers=workers,
        pool=cast(Literal["prefork", "threads"], pool),
        concurrency=concurrency,
        data_dir=data_dir,
        port_base=port_base,
        output=cast(Literal["table", "json"], output),
    )
    raise typer.Exit(run_dev(options))
