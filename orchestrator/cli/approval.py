"""`orchestrator approval`: what runs ask people, and answering."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from orchestrator.cli import inputs
from orchestrator.cli.delivered import SentBy, told
from orchestrator.cli.options import Output, connected, group, settings, verb
from orchestrator.cli.render import Format, facts, listing, note, print_json
from orchestrator.core.secrets import names_with
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.engine.signals.approvals import Approval

app = group("See what runs ask, and answer.")
Id = Annotated[str, typer.Argument(metavar="RUN/STEP", help="As `approval ls` lists it.")]
_COLUMNS: Final[Mapping[str, Callable[["Approval"], object]]] = {
    "id": lambda one: one.id,
    "flow": lambda one: one.flow,
    "title": lambda one: one.title,
    "to": lambda one: one.to,
    "asked": lambda one: one.asked_at,
    "until": lambda one: one.deadline,
}


@verb(app, "ls", "list")
def ls(
    to: Annotated[str | None, typer.Option(help="Only what this one is asked.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    output: Output = None,
) -> None:
    """List what is asked and not answered, the oldest first."""
    with connected() as client:
        rows = client.approvals(to, limit=limit)
    if output in (Format.JSON, Format.JSONL):
        print_json([_plain(row) for row in rows], lines=output is Format.JSONL)
    else:
        listing(rows, _COLUMNS, output, empty="Nobody is asked anything.")


@verb(app, "show", "get")
def show(approval: Id, output: Output = None) -> None:
    """Show what is asked, what an answer looks like, and who gave it."""
    run, step = _split(approval)
    with connected() as client:
        found = client.run(run).approval(step)
    if output in (Format.JSON, Format.JSONL):
        print_json(_plain(found), lines=output is Format.JSONL)
        return
    facts({name: value for name, value in _plain(found).items() if name not in ("form", "run_id", "step", "late")})
    print("\nform:")
    print_json(found.form)


@verb(app, "answer")
def answer(
    approval: Id,
    payload: Annotated[str | None, typer.Argument(metavar="JSON|@FILE|-", help="The whole answer.")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("-i", metavar="KEY=VALUE", help="A part of it: JSON if that fits its type, else text."),
    ] = None,
    id: Annotated[str | None, typer.Option(help="Sent again with the same id, it is given once.")] = None,
    by: SentBy = None,
    output: Output = None,
) -> None:
    """Answer what a run asks. Of two answers the first counts; the other one is told who was first."""
    run, step = _split(approval)
    if (payload is None) == (pairs is None):
        raise UsageError("Give the answer as JSON, or its parts with -i. Fix: one of the two.")
    with connected() as client:
        handle = client.run(run)
        if payload is not None:
            given = inputs.value(payload, "JSON")
        else:
            taken = inputs.Taken(handle.approval(step).form, names_with(settings().secret_names))
            given = inputs.read(None, pairs or [], taken)
        told(handle.answer(step, given, id=id, by=by), output)
        note(f"Follow the run: orchestrator run watch {handle.id}")


def _split(approval: str) -> tuple[str, str]:
    run, slash, step = approval.partition("/")
    if not slash or not run or not step:
        raise UsageError(f"{approval!r} is not RUN/STEP. Fix: `orchestrator approval ls` lists them.")
    return run, step


def _plain(found: "Approval") -> dict[str, Any]:
    return {"id": found.id, **asdict(found)}
