"""`orchestrator run rerun`: when a run went wrong."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import inputs
from orchestrator.cli.options import Output, RunId, Who, connected, seconds, verb
from orchestrator.cli.render import Format, facts, note, print_json, short
from orchestrator.cli.run import Timeout, finish

if TYPE_CHECKING:
    from orchestrator.client import RunHandle
    from orchestrator.core.rerun import Rerun


def add_to(app: typer.Typer) -> None:
    """The commands of this module belong to `orchestrator run`."""
    verb(app, "rerun")(rerun)


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
        given = _input(before, source, pairs or []) if source is not None or pairs else None
        if dry:
            _foresee(before.rerun_plan(step, input=given), step, output)
            return
        handle = before.rerun(step, input=given, by=by)
        if wait:
            note(f"Run {handle.id} is started.")
            finish(handle, limit, output)
        elif output in (Format.JSON, Format.JSONL):
            print_json({"id": handle.id, "source": before.id}, lines=output is Format.JSONL)
        else:
            print(handle.id)
            note(f"Follow it: orchestrator run watch {short(handle.id)}")


def _input(before: "RunHandle[Any]", source: str | None, pairs: list[str]) -> dict[str, Any]:
    """The pairs go over the input of the run, unless another one is given."""
    from orchestrator.ledger.tx import Ledger

    row = before.row()
    manifest = before.client.call(Ledger.manifest, row.manifest_hash)
    given = inputs.read(source, pairs, manifest.input_schema)
    return {**row.body, **given} if source is None and isinstance(row.body, dict) else given


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
