"""`orchestrator worker` with `ls` and `drain`, `orchestrator beat`, `orchestrator keeper`, `orchestrator flower`."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import (
    FlowSources,
    HealthAddress,
    Output,
    Who,
    connected,
    settings_of_process,
    sources,
    verb,
)
from orchestrator.cli.render import ago, listing
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.ledger.reads.rows import WorkerRow

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def worker(
    context: typer.Context,
    pool: Annotated[str, typer.Option(help="prefork or threads.")] = "prefork",
    concurrency: Annotated[int | None, typer.Option(help="Steps at a time, per process.")] = None,
    processes: Annotated[int, typer.Option(help="Worker processes; each consumes for itself.")] = 1,
    queues: Annotated[
        str | None, typer.Option(help="Queues to serve, comma separated; else those of the flows.")
    ] = None,
    flows: FlowSources = None,
    name: Annotated[str | None, typer.Option(help="Name of the worker in Celery's and Flower's lists.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Send Celery's task events (costs CPU on every step).")
    ] = False,
    health_address: HealthAddress = None,
) -> None:
    """Run steps until SIGTERM, or list the workers (`worker ls`).

    Needs ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL.
    """
    if context.invoked_subcommand is not None:
        return
    settings = settings_of_process(health_address)
    if flows is not None:
        settings = settings.model_copy(update={"flows": sources(flows)})
    from orchestrator.workers.process.command import WorkerOptions, run_worker

    options = WorkerOptions(
        pool=pool,
        concurrency=concurrency,
        queues=sources(queues),
        processes=processes,
        name=name,
        loglevel=log_level,
        events=events,
    )
    raise typer.Exit(run_worker(settings, options))


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List the worker processes and keepers that the ledger knows."""
    with connected() as client:
        rows = client.workers.listed()
        current = {flow.name: flow.manifest_hash for flow in client.flows.listed()}
    listing(
        rows,
        {
            "id": lambda row: row.id,
            "host": lambda row: row.host,
            "pid": lambda row: row.pid,
            "pool": lambda row: row.pool if row.is_keeper else f"{row.pool}/{row.concurrency}",
            "queues": lambda row: row.queues,
            "handlers": lambda row: len(row.handlers),
            "code": lambda row: _code(row.versions, current),
            "seen": lambda row: ago(row.seen_at) if row.live else f"{ago(row.seen_at)} (dead)",
            "consuming": _consuming,
        },
        output,
        empty="No worker has been seen. Start one with `orchestrator worker --flows MODULE`, or `orchestrator dev`.",
    )


@verb(app, "drain")
def drain(
    target: Annotated[str, typer.Argument(metavar="HOST|GROUP|RELEASE|ID", help="Which: see `worker ls`.")],
    undo: Annotated[bool, typer.Option("--undo", help="Those that have not begun go on.")] = False,
    by: Who = None,
) -> None:
    """Stop workers by way of the ledger, as SIGTERM does: what runs may end, within their grace.

    Each begins when it next says that it is there, within ten seconds by default.
    """
    with connected() as client:
        rows = client.workers.drain(target, undo=undo, by=by)
    for row in rows:
        print(f"{row.id}  {_standing(row) or 'serving'}")


def _standing(row: "WorkerRow") -> str | None:
    """Whether it was told to stop."""
    if row.stopping_at is not None:
        return f"stopping, told {ago(row.stopping_at)}"
    return f"draining, told by {row.drain_by}" if row.drain_at is not None else None


def _consuming(row: "WorkerRow") -> str:
    if row.live and (standing := _standing(row)):
        return standing
    if row.is_keeper:
        return "takes no steps"
    if not row.live:
        return "no"
    return f"yes, {ago(row.consumed_at)}" if row.consumed_at else "not yet"


def _code(versions: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Whether its code is the version that new runs get."""
    behind = [f"{flow} {hash[:8]}" for flow, hash in sorted(versions.items()) if current.get(flow) != hash]
    return f"not current: {', '.join(behind)}" if behind else "current" if versions else ""


def beat(
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    health_address: HealthAddress = None,
) -> None:
    """Announce the ticks of schedules until SIGTERM. Any number may run: one does it, the others stand by.

    Needs ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL. Without any beat, workers fire schedules a little late.
    """
    settings = settings_of_process(health_address)
    from orchestrator.workers.process.command import run_beat

    raise typer.Exit(run_beat(settings, loglevel=log_level))


def keeper(
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    health_address: HealthAddress = None,
) -> None:
    """Do, until SIGTERM, what workers do beside running steps: wake what sleeps, fire schedules, send again.

    Needs ORCHESTRATOR_DATABASE_URL and ORCHESTRATOR_BROKER_URL, and no flows. With it, all workers may stop while there
    is nothing to run. Any number may run beside workers: one process leads.
    """
    settings = settings_of_process(health_address)
    from orchestrator.workers.process.keeper import run_keeper

    raise typer.Exit(run_keeper(settings, loglevel=log_level))


def flower(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5555,
    address: Annotated[str, typer.Option(help="Other than 127.0.0.1 needs --basic-auth.")] = "127.0.0.1",
    basic_auth: Annotated[
        str | None, typer.Option(help="user:password", envvar="FLOWER_BASIC_AUTH", show_envvar=True)
    ] = None,
    url_prefix: Annotated[str | None, typer.Option(help="Path under which a proxy serves it.")] = None,
) -> None:
    """Look at the queues with Flower: read-only, and without events.

    Needs ORCHESTRATOR_BROKER_URL.
    """
    settings = Settings.from_env(os.environ)
    settings.require_broker_url()
    from orchestrator.workers.process.command import run_flower

    raise typer.Exit(run_flower(settings, port=port, address=address, basic_auth=basic_auth, url_prefix=url_prefix))
