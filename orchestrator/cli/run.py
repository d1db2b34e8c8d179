"""`orchestrator run`: start runs, look at them, operate them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from orchestrator.cli import inputs, runview, watch
from orchestrator.cli.options import (
    After,
    FlowName,
    FlowSources,
    Most,
    Output,
    RunId,
    Who,
    connected,
    group,
    load,
    seconds,
    verb,
)
from orchestrator.cli.render import Format, between, error_line, listing, note, print_json, short
from orchestrator.errors import Conflict, OrchestratorError, UsageError

if TYPE_CHECKING:
    from orchestrator.client import Client, RunHandle

app = group("Start runs, look at them, operate them.")

Timeout = Annotated[str | None, typer.Option("--timeout", help="How long to wait, such as 30s or 5m; else for ever.")]


@verb(app, "start")
def start(
    flow: FlowName,
    pairs: Annotated[
        list[str] | None, typer.Option("-i", metavar="KEY=VALUE", help="A parameter: JSON, or text.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="@FILE|-|JSON", help="The whole input, as a JSON object.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key and input give the first run again.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="May be given several times.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    flows: FlowSources = None,
    output: Output = None,
) -> None:
    """Start a run; print its id, or with --wait its result."""
    if timeout is not None and not wait:
        raise UsageError("--timeout says how long to wait. Fix: add --wait.")
    limit = seconds(timeout)
    with connected() as client:
        known = load(flows).get(flow) if flows else None
        manifest = known.manifest if known else _manifest(client, flow)
        given = inputs.read(source, pairs or [], manifest.input_schema)
        handle = client.start(known or flow, given, idempotency_key=key, tags=tags or ())
        if not handle.created:
            note(f"Run {handle.id} was started with this key before.")
        if wait:
            note(f"Run {handle.id} of {flow} is started.")
            _finish(handle, limit, output)
            return
        if output is None or output is Format.TABLE:
            print(handle.id)
            note(f"Follow it: orchestrator run watch {short(handle.id)}")
        else:
            print_json({"id": handle.id, "flow": flow, "created": handle.created}, lines=output is Format.JSONL)


def _manifest(client: "Client", flow: str) -> Any:
    from orchestrator.ledger import reads
    from orchestrator.ledger.tx import Ledger

    return client.call(Ledger.manifest, client.call(reads.flow, flow).manifest_hash)


def _finish(handle: "RunHandle[Any]", limit: float | None, output: Format | None) -> None:
    """Print the outcome of a run; raise what its exit code comes from."""
    lines = output is Format.JSONL
    as_json = lines or output is Format.JSON
    status = handle.wait(limit)
    try:
        result = handle.outcome(status)
    except OrchestratorError:
        if as_json:
            print_json({"id": handle.id, "status": status, "error": handle.row().error}, lines=lines)
        raise
    print_json({"id": handle.id, "status": status, "result": result} if as_json else result, lines=lines)


@verb(app, "ls", "list")
def ls(
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.")] = None,
    status: Annotated[str | None, typer.Option(help="Only runs with this status.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only runs with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    output: Output = None,
) -> None:
    """List runs, newest first."""
    with connected() as client:
        rows = client.runs(flow=flow, status=status, tag=tag, limit=limit)
    listing(
        rows,
        {
            "id": lambda row: short(row.id),
            "flow": lambda row: f"{row.flow}@{row.version}",
            "status": lambda row: row.status,
            "tags": lambda row: row.tags,
            "started": lambda row: row.started_at or row.created_at,
            "duration": lambda row: between(row.started_at, row.ended_at),
            "error": lambda row: error_line(row.error)[:80],
        },
        output,
        empty="No run fits. Start one with `orchestrator run start FLOW`.",
    )


@verb(app, "show", "get")
def show(
    run: RunId,
    whole: Annotated[bool, typer.Option("--all", help="Also every child of big loops.")] = False,
    output: Output = None,
) -> None:
    """Show a run and its steps."""
    with connected() as client:
        handle = client.run(run)
        row, steps = handle.row(), list(handle.all_steps()) if whole else handle.steps()
    if output in (Format.JSON, Format.JSONL):
        print_json({**asdict(row), "steps": steps}, lines=output is Format.JSONL)
    else:
        runview.show(row, steps)


@verb(app, "watch")
def watch_run(run: RunId, timeout: Timeout = None) -> None:
    """Follow a run until it ends; the exit code is the run's."""
    limit = seconds(timeout)
    with connected() as client:
        handle = client.run(run)
        handle.outcome(watch.follow(handle, limit))


@verb(app, "result")
def result(
    run: RunId,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    timeout: Timeout = None,
    output: Output = None,
) -> None:
    """Print what a run returned, as JSON."""
    limit = seconds(timeout)
    with connected() as client:
        handle = client.run(run)
        status = handle.wait(limit) if wait or limit is not None else handle.status()
        if status in ("pending", "running", "waiting"):
            raise Conflict(
                f"Run {handle.id} is {status} and has no result yet. Fix: add --wait.", run_id=str(handle.id)
            )
        print_json(handle.outcome(status), lines=output is Format.JSONL)


@verb(app, "events")
def events(
    run: RunId,
    after: After = 0,
    limit: Most = 1000,
    output: Output = None,
) -> None:
    """Print a run's history."""
    with connected() as client:
        rows = client.run(run).events(after=after, limit=limit)
    listing(rows, runview.EVENT_COLUMNS, output, empty="Nothing happened after that event.")


@verb(app, "cancel")
def cancel(
    run: RunId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "no reason given",
    by: Who = None,
    output: Output = None,
) -> None:
    """Ask a run to stop: nothing of it starts any more, and running steps are told."""
    with connected() as client:
        handle = client.run(run)
        status = handle.cancel(reason, by=by)
        _report(handle.id, status, output)
        if status != "cancelled":
            note(f"Running steps have {client.settings.cancel_grace.total_seconds():g} s to stop.")


@verb(app, "retry")
def retry(
    run: Annotated[str, typer.Argument(metavar="ID[/STEP]", help="A run, or one failed step of it.")],
    step: Annotated[str | None, typer.Argument(metavar="[STEP]", help="The failed step; else all of them.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Run what failed again, and what was skipped because of it."""
    limit = seconds(timeout)
    name, _, part = run.partition("/")
    if step and part:
        raise UsageError(f"Two steps are named, {part} and {step}. Fix: name one.")
    with connected() as client:
        handle = client.run(name)
        handle.retry(step or part or None, by=by)
        if wait:
            _finish(handle, limit, output)
        else:
            _report(handle.id, handle.status(), output)


@verb(app, "explain")
def explain(
    run: Annotated[str, typer.Argument(metavar="ID[/STEP]", help="A run, or one step of it.")], output: Output = None
) -> None:
    """Say in one sentence what a run or step waits for, since when, and what to do."""
    name, _, step = run.partition("/")
    with connected() as client:
        found = client.run(name).explain(step or None)
    if output in (Format.JSON, Format.JSONL):
        print_json(found, lines=output is Format.JSONL)
        return
    print(found.sentence)
    if found.command:
        print(f"Next: {found.command}")


def _report(run_id: UUID, status: str, output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json({"id": run_id, "status": status}, lines=output is Format.JSONL)
    else:
        print(f"{run_id}  {status}")
