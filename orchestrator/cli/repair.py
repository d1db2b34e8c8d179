"""`orchestrator run rerun`, `skip` and `mark`: when a run went wrong."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import inputs
from orchestrator.cli.options import FlowSources, Output, RunId, Who, connected, load, seconds, verb
from orchestrator.cli.render import Format, facts, note, print_json, short
from orchestrator.cli.run import Timeout, finish
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient, AnyRun
    from orchestrator.core.rerun import Rerun


def add_to(app: typer.Typer) -> None:
    """The commands of this module belong to `orchestrator run`."""
    verb(app, "rerun")(rerun)
    verb(app, "skip")(skip)
    verb(app, "mark")(mark)


Run = Annotated[str, typer.Argument(metavar="ID[/STEP]", help="The run's id or its last characters, and the step.")]
Key = Annotated[str | None, typer.Argument(metavar="STEP", help="The key of the step, if it is not behind the id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


def skip(run: Run, step: Key = None, *, reason: Reason, by: Who = None, output: Output = None) -> None:
    """Leave a step out that no worker has: it is ready, or waits, or it failed; then its run is opened again."""
    run, step = _meant(run, step)
    with connected() as client:
        handle = client.run(run)
        handle.skip(step, reason, by=by)
        _settled(handle, step, output)


def mark(
    run: Run,
    step: Key = None,
    *,
    result: Annotated[
        str, typer.Option("--output", metavar="@FILE|-|JSON", help="What it would have returned, as JSON.")
    ],
    reason: Reason,
    flows: FlowSources = None,
    by: Who = None,
    output: Annotated[
        Format | None, typer.Option("-o", help="table (default), json or jsonl.", metavar="FORMAT")
    ] = None,
) -> None:
    """Say that a step is done that no worker has, with this output. With --flows it is checked by the step's type.

    Without, by what the manifest says of it: of the answer to a wait, and of the step that gives the run's result. The
    types of other steps are in the code only.
    """
    run, step = _meant(run, step)
    given = inputs.value(result, "--output")
    with connected() as client:
        handle = client.run(run)
        known = load(flows).get(handle.row().flow)
        if known is None:
            note(
                "The output is not checked by the type of the step, but by what the manifest says of it: "
                "the code of the flow is not at hand (--flows)."
            )
        client.run(handle.id, known).mark(step, given, reason, by=by)
        _settled(handle, step, output)


def _meant(run: str, step: str | None) -> tuple[str, str]:
    """The run and its step: as two words, or as one, in which most commands take them."""
    name, _, key = run.partition("/")
    if (step is None) == (not key):
        raise UsageError(f"One step of a run is settled. Fix: name it once, as in {name}/{step or key or 'STEP'}.")
    return name, step or key


def _settled(handle: "AnyRun", step: str, output: Format | None) -> None:
    row = handle.step(step)
    if output in (Format.JSON, Format.JSONL):
        print_json(
            {"id": handle.id, "step": step, "status": row.status, "run": handle.status()}, lines=output is Format.JSONL
        )
        return
    print(f"{handle.id}/{step}  {row.status}")
    note(f"The run is {handle.status()}. See it: orchestrator run show {short(handle.id)}")


def rerun(
    run: RunId,
    step: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Keep what is neither this step nor after it.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--input", metavar="@FILE|-|JSON", help="Another input, as a JSON object.")
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("-i", metavar="KEY=VALUE", help="A parameter that is to be another one.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be kept, and what would run.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    timeout: Timeout = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Start a new run like this one: whole on the flow's current version, or --from a step on, with the outputs before
    it kept, on this run's version."""
    limit = seconds(timeout)
    with connected() as client:
        before = client.run(run)
        given = _given(client, before, source, pairs or []) if source is not None or pairs else None
        other, changes = (None, given) if source is None else (given, None)
        if dry:
            _foresee(before.rerun_plan(step, input=other, changes=changes), step, output)
            return
        handle = before.rerun(step, input=other, changes=changes, by=by)
        if wait:
            note(f"Run {handle.id} is started.")
            finish(handle, limit, output)
        elif output in (Format.JSON, Format.JSONL):
            print_json({"id": handle.id, "source": before.id}, lines=output is Format.JSONL)
        else:
            print(handle.id)
            note(f"Follow it: orchestrator run watch {short(handle.id)}")


def _given(client: "AnyClient", before: "AnyRun", source: str | None, pairs: list[str]) -> dict[str, Any]:
    """A whole input with the pairs over it, or the pairs alone, which go over the input of the run."""
    manifest = client.flows.manifest(before.row().manifest_hash)
    return inputs.read(source, pairs, inputs.Taken.by(manifest))


def _foresee(found: "Rerun", step: str | None, output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(found), lines=output is Format.JSONL)
        return
    facts(
        {
            "kept": _listed(found.kept),
            "stay skipped": ", ".join(found.settled) or None,
            "run again": _listed(found.again),
            "new in the version": _listed(found.new),
            "dropped": _listed(found.dropped),
        }
    )
    if found.changed:
        note(f"Kept although they read what is changed in the input: {', '.join(found.changed)}.")
    kept = f"; to keep more, name a later step than {step}" if step is not None and found.kept else ""
    note(f"Steps that run again have new idempotency keys: what they did before, they do once more{kept}.")


def _listed(keys: tuple[str, ...]) -> str:
    return ", ".join(keys) or "nothing"
