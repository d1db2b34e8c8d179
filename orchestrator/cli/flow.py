"""`orchestrator flow`: what is registered, and what the code has."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import drift, graph, runview
from orchestrator.cli.options import After, FlowName, FlowSources, Most, Output, Who, connected, group, load, verb
from orchestrator.cli.render import Format, facts, listing, note, numbered, print_json, say_if_more, table
from orchestrator.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient
    from orchestrator.core.manifest import Manifest
    from orchestrator.ledger.reads.rows import FlowRow

app = group("Flows: list, draw, check, enable, disable.")


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List the registered flows."""
    with connected() as client:
        rows = client.flows.listed()
    listing(
        rows,
        {
            "flow": lambda row: row.name,
            "version": lambda row: row.version,
            "current": lambda row: numbered(row.ordinal, row.manifest_hash),
            "enabled": lambda row: row.enabled,
            "open runs": lambda row: row.open_runs,
            "updated": lambda row: row.updated_at,
        },
        output,
        empty="No flow is registered. A worker registers its flows: `orchestrator worker --flows MODULE`.",
    )


@verb(app, "show", "get")
def show(flow: FlowName, output: Output = None) -> None:
    """Show a flow: its input, its steps, its state."""
    with connected() as client:
        row, manifest = _current(client, flow)
    if output in (Format.JSON, Format.JSONL):
        given = {**_row(row), "manifest": manifest.model_dump(mode="json", exclude_defaults=True)}
        print_json(given, lines=output is Format.JSONL)
        return
    facts(
        {
            "flow": f"{row.name}@{row.version}",
            "description": manifest.description,
            "enabled": row.enabled,
            "switched by": f"{row.switched_by}: {row.switch_reason or 'no reason given'}" if row.switched_by else None,
            "tags": manifest.tags,
            "queue": manifest.queue,
            "deadline": manifest.deadline,
            "open runs": row.open_runs,
            "updated": row.updated_at,
            "current": numbered(row.ordinal, row.manifest_hash),
        }
    )
    if parameters := graph.parameters(manifest):
        print()
        table(["parameter", "type", "required", "default"], parameters)
    print()
    print(graph.of_flow(manifest))


def _row(row: "FlowRow") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(row)


def _current(client: "AnyClient", flow: str) -> "tuple[FlowRow, Manifest]":
    row = client.flows.get(flow)
    return row, client.flows.manifest(row.manifest_hash)


@verb(app, "events")
def events(flow: FlowName, after: After = 0, limit: Most = 1000, output: Output = None) -> None:
    """Starts that were refused, and who switched the flow, in order."""
    with connected() as client:
        rows = client.flow_events(flow, after=after, limit=limit)
        listing(rows, runview.OWN_EVENT_COLUMNS, output, empty="Nothing happened to the flow after that event.")
        say_if_more(rows, limit, lambda last: client.flow_events(flow, after=last, limit=1))


@verb(app, "graph")
def graph_(
    flow: FlowName,
    mermaid: graph.Mermaid = False,
    dot: graph.Dot = False,
    flows: FlowSources = None,
) -> None:
    """Draw a flow: a text tree, Mermaid or Graphviz. With --flows from the code, else as registered."""
    language = graph.language(mermaid=mermaid, dot=dot)
    manifest = None
    if flows is not None:
        known = load(flows)
        manifest = known[flow].manifest if flow in known else None
    if manifest is None:
        with connected() as client:
            _, manifest = _current(client, flow)
    print(graph.of_flow(manifest, language))


@verb(app, "versions")
def versions(flow: FlowName, output: Output = None) -> None:
    """List the versions of a flow, in the order in which they were first registered."""
    with connected() as client:
        rows = client.flows.versions(flow)
    listing(
        rows,
        {
            "no": lambda row: row.ordinal,
            "hash": lambda row: row.hash[:8],
            "version": lambda row: row.version,
            "state": lambda row: "current" if row.current else "superseded" if row.superseded_at else "kept",
            "open runs": lambda row: row.open_runs,
            "registered": lambda row: row.created_at,
            "by": lambda row: row.registered_by,
        },
        output,
        empty="",
    )


@verb(app, "deploy")
def deploy(
    flow: FlowName,
    version: Annotated[
        int | None, typer.Option(help="Its number in `flow versions`; else what the code says.", metavar="N")
    ] = None,
    flows: FlowSources = None,
    by: Who = None,
) -> None:
    """Make a version of a flow the current one, even one that was superseded: a roll-back.

    Starts by name and schedules use it from then on; runs in flight keep theirs.
    """
    with connected() as client:
        if version is not None:
            done = client.flows.deploy_version(flow, version, by=by)
        else:
            done = client.flows.deploy(_loaded(flow, flows), by=by)
    before = f", before it was {done.before}" if done.before else ""
    print(f"{flow}  version {done.ordinal} is current{before if done.changed else ' already'}")


def _loaded(flow: str, flows: str | None) -> "Manifest":
    from orchestrator.core.suggest import did_you_mean

    known = load(flows)
    if flow not in known:
        fix = (did_you_mean(flow, known) if known else "") or "give --flows MODULE or --flows FILE.py, or --version N."
        raise UsageError(f"The code has no flow {flow!r}. Fix: {fix}")
    return known[flow].manifest


@verb(app, "check")
def check(
    flows: FlowSources = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="URL|FILE", help="A ledger, or a file of manifests (`flow show -o json`); else yours."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as breaks.")] = False,
    stop_grace: Annotated[
        str | None,
        typer.Option("--stop-grace", metavar="TIME", help="Of the workers: a step that may run longer is a break."),
    ] = None,
    output: Output = None,
) -> None:
    """Load the flows of the code, and compare them with the ledger if there is one: what a deploy would change.

    Exit code 0: safe. 1: open runs or callers would break. 2: that cannot be told, or a flow cannot be loaded.
    """
    found = load(flows)
    if not found:
        note("No flow was named. Fix: give --flows MODULE or --flows FILE.py, or set ORCHESTRATOR_FLOWS.")
        raise typer.Exit(2)
    grace = _grace(stop_grace)
    try:
        rows, reached = drift.compare(found, against)
    except Unavailable as exc:
        note(f"That cannot be told. {exc}")
        raise typer.Exit(2) from None
    rows = rows if grace is None else [drift.held_to(row, found[row.flow], grace) for row in rows]
    if not reached:
        note("The ledger was not asked, so what is new or changed is not known.")
    listing(
        rows if output in (None, Format.TABLE) else [drift.plain(row) for row in rows],
        {
            "flow": lambda row: row.flow,
            "version": lambda row: row.version,
            "steps": lambda row: row.steps,
            "state": lambda row: row.state,
            "verdict": lambda row: row.verdict if reached or grace else "",
            "adds": lambda row: row.added,
            "removes": lambda row: row.removed,
            "open runs on older versions": lambda row: row.older_runs,
        },
        output,
        empty="",
    )
    for row in rows:
        for problem in drift.problems(row):
            note(problem)
    if code := drift.exit_code(rows, strict=strict, reached=reached):
        raise typer.Exit(code)


def _grace(text: str | None) -> timedelta | None:
    from orchestrator.core.durations import parse_duration

    if text is None:
        return None
    grace = parse_duration(text)
    if grace <= timedelta(0):
        raise UsageError(f"--stop-grace {text} is no time. Fix: write what ORCHESTRATOR_STOP_GRACE is, such as 10m.")
    return grace


@verb(app, "enable")
def enable(flow: FlowName, by: Who = None) -> None:
    """Accept triggers of a flow again."""
    with connected() as client:
        client.flows.enable(flow, by=by)
    print(f"{flow}  enabled")


@verb(app, "disable")
def disable(
    flow: FlowName,
    reason: Annotated[str | None, typer.Option(help="Why, for those who are refused.")] = None,
    by: Who = None,
) -> None:
    """Refuse every trigger of a flow; runs in flight go on."""
    with connected() as client:
        client.flows.disable(flow, reason=reason, by=by)
    print(f"{flow}  disabled")


@verb(app, "delete")
def delete(
    flow: FlowName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Who = None,
) -> None:
    """Remove a flow that the code does not have any more; its runs that ended can be read as before."""
    with connected() as client:
        client.flows.get(flow)  # who is asked about a flow that is not there answers for nothing
        if not yes:
            typer.confirm(f"Delete flow {flow} with its schedules?", abort=True, err=True)
        client.flows.delete(flow, by=by)
    print(f"{flow}  deleted")
