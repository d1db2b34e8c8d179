"""`orchestrator run`: start runs, look at them, operate them."""

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import bulk, graph, inputs, logs, runtree, runview, stepview, watch
from orchestrator.cli.delivered import SentBy, told
from orchestrator.cli.many import RunIds, SomeIds, StepIds, named, operate
from orchestrator.cli.options import (
    After,
    FlowName,
    FlowSources,
    Output,
    RunId,
    Since,
    Until,
    Where,
    Who,
    connected,
    group,
    load_one,
    moment,
    query_of,
    seconds,
    verb,
    when,
)
from orchestrator.cli.render import Format, listing, note, numbered, of, pages, print_json, short
from orchestrator.core.operations import Action
from orchestrator.core.wording import counted
from orchestrator.errors import OrchestratorError, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient, AnyRun
    from orchestrator.client.wanted import Wanted
    from orchestrator.core.states import RunStatus

app = group("Start runs, look at them, operate them.")

Why = Annotated[str | None, typer.Option("--reason", help="Why, for the record; with --where it is needed.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="How long to wait, such as 30s or 5m; else for ever.")]


@verb(app, "start")
def start(
    flow: FlowName,
    pairs: Annotated[
        list[str] | None,
        typer.Option("-i", metavar="KEY=VALUE", help="A parameter: JSON if that fits its type, else text."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="@FILE|-|JSON", help="The whole input, as a JSON object.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key and input give the first run again.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="May be given several times.")] = None,
    start_after: Annotated[
        str | None,
        typer.Option("--start-after", metavar="TIME", help="Begin later: in 10m, or at 2026-01-31T12:00:00+01:00."),
    ] = None,
    headers: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME=VALUE", help="Of the request that it stands for; several times."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    flows: FlowSources = None,
    output: Output = None,
) -> None:
    """Start a run of a flow, or with --flows of a step alone; print its id, or with --wait its result."""
    if timeout is not None and not wait:
        raise UsageError("--timeout says how long to wait. Fix: add --wait.")
    limit = seconds(timeout)
    brought = inputs.headers(headers or [])
    with connected() as client:
        known = load_one(flows, flow) if flows else None
        flow = known.name if known else flow
        manifest = known.manifest if known else _manifest(client, flow)
        given = inputs.read(source, pairs or [], inputs.Taken.by(manifest))
        begins = moment(start_after)
        handle = client.start(
            known or flow, given, idempotency_key=key, tags=tags or (), start_after=begins, headers=brought
        )
        if not handle.created:
            note(f"Run {handle.id} was started with this key before.")
        elif client.is_unserved(flow):
            note(
                f"No live worker has flow {flow}: the run is accepted, and waits until one has. "
                f"Start one: orchestrator worker --flows MODULE_OF_{flow.upper()}"
            )
        if known is not None and (row := handle.row()).manifest_hash != known.manifest.hash:
            note(f"It is a run of the current version, {numbered(row.ordinal, row.manifest_hash)}, not of the code's.")
        if wait:
            note(f"Run {handle.id} of {flow} is started.")
            finish(handle, limit, output)
            return
        if output is None or output is Format.TABLE:
            print(handle.id)
            note(f"Follow it: orchestrator run watch {short(handle.id)}")
        else:
            print_json({"id": handle.id, "flow": flow, "created": handle.created}, lines=output is Format.JSONL)


def _manifest(client: "AnyClient", flow: str) -> Any:
    return client.flows.manifest(client.flows.get(flow).manifest_hash)


def finish(handle: "AnyRun", limit: float | None, output: Format | None) -> None:
    """Print the outcome of a run; raise what its exit code comes from."""
    lines = output is Format.JSONL
    as_json = lines or output is Format.JSON
    status = watch.wait(handle, limit)
    try:
        result = watch.result(handle, status)
    except OrchestratorError:
        if as_json:
            print_json({"id": handle.id, "status": status, "error": handle.row().error}, lines=lines)
        raise
    print_json({"id": handle.id, "status": status, "result": result} if as_json else result, lines=lines)


@verb(app, "ls", "list")
def ls(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="Such as 'flow:bill status:failed,cancelled -tag:test age<1d'."),
    ] = None,
    where: Where = None,
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only runs with this status; several times for any of them.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only runs with this tag.")] = None,
    key: Annotated[str | None, typer.Option(help="Only the run with this idempotency key.")] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="FLOW/KEY", help="Only runs that this schedule started.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only runs with this text in their error.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only runs older than this one.")] = None,
    inputs: Annotated[bool, typer.Option("--inputs", help="With -o json: the inputs too.")] = False,
    output: Output = None,
) -> None:
    """List runs, newest first: those for which all that is asked holds."""
    with connected() as client:
        wanted: Wanted = {"q": query_of(query, where), "flow": flow, "status": status, "tag": tag}
        wanted |= {"key": key, "schedule": schedule, "error": error, "since": when(since), "until": when(until)}
        last = client.run(after).id if after else None
        rows = client.runs(**wanted, limit=limit, after=last, inputs=inputs)
        total = client.count_runs(**wanted) if len(rows) == limit or after else len(rows)
    if output in (Format.JSON, Format.JSONL):
        plain = [{name: value for name, value in asdict(row).items() if inputs or name != "body"} for row in rows]
        print_json(plain, lines=output is Format.JSONL)
    else:
        empty = "No run matches. Start one with `orchestrator run start FLOW`."
        listing(rows, runview.RUN_COLUMNS, output, empty=empty)
    if len(rows) == limit and total > len(rows):
        note(of(len(rows), total, "runs", f"--after {short(rows[-1].id)}, or --limit"))


@verb(app, "show", "get")
def show(
    runs: SomeIds,
    whole: Annotated[
        bool, typer.Option("--all", help="Every child of big loops; of a step, every attempt, and nothing cut.")
    ] = False,
    status: Annotated[
        str | None, typer.Option(help="Only steps with this status, those of big loops too: 50 of each loop.")
    ] = None,
    output: Output = None,
) -> None:
    """Show a run and its steps, or one step: its attempts, errors, inputs and output."""
    names = named(runs)
    shown: list[object] = []
    with connected() as client:
        for number, name in enumerate(names):
            run, _, step = name.partition("/")
            handle = client.run(run)
            as_json = output in (Format.JSON, Format.JSONL)
            if number and not as_json:
                print()
            if step:
                view = stepview.read(handle, step, whole=whole)
                shown.append(view.plain()) if as_json else stepview.show(view, whole=whole)
                continue
            row, steps, reruns = handle.row(), runview.steps(handle, status, whole=whole), handle.reruns()
            if as_json:
                shown.append({**asdict(row), "reruns": reruns, "steps": steps})
            else:
                runview.show(row, steps, reruns)
    if output in (Format.JSON, Format.JSONL):
        print_json(shown if len(names) > 1 else shown[0], lines=output is Format.JSONL)


@verb(app, "graph")
def graph_(run: RunId, mermaid: graph.Mermaid = False, dot: graph.Dot = False) -> None:
    """Draw a run, each step with where it stands: a text tree, Mermaid or Graphviz."""
    language = graph.language(mermaid=mermaid, dot=dot)
    with connected() as client:
        print(client.run(run).graph(language))


@verb(app, "watch")
def watch_run(
    run: RunId,
    deep: Annotated[
        bool, typer.Option("--deep", help="With the steps of the runs that it called, until these have ended, too.")
    ] = False,
    timeout: Timeout = None,
) -> None:
    """Follow a run until it ends; the exit code is the run's."""
    limit = seconds(timeout)
    with connected() as client:
        handle = client.run(run)
        handle.outcome(watch.follow(handle, limit, deep=deep))


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
        if wait or limit is not None:
            handle.wait(limit)
        print_json(handle.shown_result(), lines=output is Format.JSONL)


@verb(app, "events")
def events(
    run: RunId,
    after: After = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many; else all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    output: Output = None,
) -> None:
    """Print a run's history, or follow it."""
    with connected() as client:
        handle = client.run(run)
        if follow:
            watch.follow_events(handle, after, output)
            return
        rows = islice(handle.all_events(after=after), limit)
        count, last = pages(rows, runview.EVENT_COLUMNS, output, empty="Nothing happened after that event.")
        if count == limit and handle.events(after=last, limit=1):
            note(f"{count} events are shown, and there are more. Continue with --after {last}.")


@verb(app, "logs")
def logs_(
    run: Annotated[str, typer.Argument(metavar="ID[/STEP]", help="A run, or one step of it.")],
    grep: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only lines with this: a regular expression, in any case.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    output: Output = None,
) -> None:
    """Print what the handlers of a run, or of one step, logged and printed; of each attempt the first and last
    megabyte."""
    name, _, step = run.partition("/")
    wanted = logs.pattern(grep)
    with connected() as client:
        handle = client.run(name)
        if step:
            handle.step(step)
        (logs.follow if follow else logs.show)(handle, step or None, wanted, output)


@verb(app, "cancel")
def cancel(
    runs: RunIds = None,
    where: bulk.Where = None,
    reason: Why = None,
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    by: Who = None,
    output: Output = None,
) -> None:
    """Ask runs to stop: no step of theirs starts any more, and running ones are told to stop."""
    names = bulk.chosen(runs, where, dry_run=dry_run, detach=detach)
    with connected() as client:
        if where is not None:
            bulk.operate(client, bulk.Bulk(Action.CANCEL, where, reason, dry_run, detach, by, output))
            return
        left: list[RunStatus] = []

        def act(name: str) -> dict[str, object]:
            handle = client.run(name)
            status = handle.cancel(reason or "no reason given", by=by)
            left.extend([status] * (status != "cancelled"))
            return {"id": handle.id, "status": status}

        operate(names, output, "cancelled, or told to stop", act)
        if left:
            note("Running steps are told to stop, and have the time of ORCHESTRATOR_CANCEL_GRACE for that.")


@verb(app, "signal")
def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(help="Of the signal, as its step waits for it.")],
    payload: Annotated[str, typer.Argument(metavar="JSON|@FILE|-", help="What is sent.")] = "null",
    key: Annotated[str, typer.Option(help="Which of the waits of that name.")] = "",
    id: Annotated[str | None, typer.Option(help="Sent again with the same id, it is delivered once.")] = None,
    ttl: Annotated[str | None, typer.Option(help="How long it is kept if nothing waits, such as 5m.")] = None,
    by: SentBy = None,
    output: Output = None,
) -> None:
    """Send a signal to a run: a step that waits takes it, or it is kept for one that will."""
    with connected() as client:
        handle = client.run(run)
        value = inputs.value(payload, "JSON")
        told(handle.signal(name, value, key=key, id=id, by=by, ttl=ttl), output)


@verb(app, "retry")
def retry(
    runs: StepIds = None,
    where: bulk.Where = None,
    reason: Why = None,
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of one run and print the result.")] = False,
    timeout: Timeout = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a step that makes up for the failure (a refund) has succeeded.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Steps that called a flow start a new run of it, and leave the old one.")
    ] = False,
    by: Who = None,
    output: Output = None,
) -> None:
    """Run what failed again, and what was skipped because of it."""
    limit, given = seconds(timeout), bulk.chosen(runs, where, dry_run=dry_run, detach=detach)
    if where is None and reason is not None:
        raise UsageError("--reason goes with --where. Fix: leave it out.")
    if where is not None and wait:
        raise UsageError("--wait waits for one run. Fix: leave it out; with --where the retries are waited for.")
    with connected() as client:
        if where is not None:
            bulk.operate(client, bulk.Bulk(Action.RETRY, where, reason, dry_run, detach, by, output, force, fresh))
            return

        def again(name: str) -> "AnyRun":
            run, _, step = name.partition("/")
            handle = client.run(run)
            handle.retry(step or None, by=by, force=force, fresh=fresh)
            return handle

        def act(name: str) -> dict[str, object]:
            handle = again(name)
            return {"id": handle.id, "status": handle.status()}

        if not wait:
            operate(given, output, "run again", act)
            return
        names = named(given)
        if len(names) != 1:
            raise UsageError(f"--wait waits for one run, and {len(names)} are named. Fix: leave it out.")
        finish(again(names[0]), limit, output)


@verb(app, "delete")
def delete(
    runs: RunIds = None,
    where: bulk.Where = None,
    reason: Why = None,
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Who = None,
    output: Output = None,
) -> None:
    """Remove runs that ended, with their inputs, outputs and history: for good, and before the retention does."""
    names = named(bulk.chosen(runs, where, dry_run=dry_run, detach=detach))
    if not yes and where is None:
        typer.confirm(f"Delete {counted(len(names), 'run')} for good?", abort=True, err=True)
    with connected() as client:
        if where is not None:
            asked = bulk.Bulk(Action.DELETE, where, reason, dry_run, detach, by, output, ask=not yes)
            bulk.operate(client, asked)
            return

        def act(name: str) -> dict[str, object]:
            handle = client.run(name)
            handle.delete(reason, by=by)
            return {"id": handle.id, "status": "deleted"}

        operate(names, output, "deleted", act)


@verb(app, "tree")
def tree(run: RunId, output: Output = None) -> None:
    """Show a run with the runs that its steps called, and theirs: each below the step that called it."""
    with connected() as client:
        found = client.run(run).tree()
    if output in (Format.JSON, Format.JSONL):
        print_json(found, lines=output is Format.JSONL)
    else:
        runtree.show(found)


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
