"""`orchestrator operation`: what was asked to be done to many runs, and how far that is."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import bulk
from orchestrator.cli.options import Output, Who, connected, group, verb
from orchestrator.cli.render import Format, ago, facts, listing, note, print_json, short
from orchestrator.core.operations import Outcome

if TYPE_CHECKING:
    from orchestrator.ledger.operations import OperationRow

app = group("Operations on many runs: list, look, pause, resume, cancel.")

Id = Annotated[str, typer.Argument(metavar="ID", help="An operation's id, or its last characters, at least four.")]


@verb(app, "ls", "list")
def ls(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only operations older than this one.")] = None,
    output: Output = None,
) -> None:
    """List operations, newest first."""
    with connected() as client:
        last = client.operation(after).id if after else None
        rows = client.operations(limit=limit + 1, after=last, only_open=only_open)
    listing(
        rows[:limit],
        {
            "id": lambda row: short(row.id),
            "action": lambda row: row.action,
            "state": lambda row: row.state,
            "done": lambda row: f"{row.total - row.pending:,} of {row.total:,}",
            "runs": _wanted,
            "by": lambda row: row.by,
            "begun": lambda row: ago(row.created_at),
            "reason": lambda row: row.reason,
        },
        output,
        empty="There is no operation. Make one: `orchestrator run cancel --where QUERY --reason WHY`.",
    )
    if len(rows) > limit:
        note(f"{limit:,} are shown, and there are more. Continue with --after {short(rows[limit - 1].id)}.")


@verb(app, "show", "get")
def show(operation: Id, output: Output = None) -> None:
    """Show an operation: what is done to how many runs, by whom and why, and how far it is."""
    with connected() as client:
        row = client.operation(operation).row()
    if output in (Format.JSON, Format.JSONL):
        print_json(row, lines=output is Format.JSONL)
        return
    facts(
        {
            "id": row.id,
            "action": row.action,
            "options": ", ".join(row.options),
            "state": row.state,
            "runs": _wanted(row),
            "total": f"{row.total:,}",
            **{f"  {outcome.replace('_', ' ')}": count for outcome, count in sorted(row.counts.items())},
            "dry run said": row.foreseen if row.moved else None,
            "by": row.by,
            "reason": row.reason,
            "begun": row.created_at,
            "changed by": row.changed_by,
            "ended": row.ended_at,
        }
    )
    if row.counts.keys() & {Outcome.LEFT_OUT, Outcome.FAILED}:
        note(f"Why: orchestrator operation outcomes {short(row.id)} --outcome left_out")


def _wanted(row: "OperationRow") -> str:
    """What was asked for, in one line."""
    return " ".join(str(value) if name == "q" else f"{name}:{value}" for name, value in row.wanted.items())


@verb(app, "outcomes")
def outcomes(
    operation: Id,
    outcome: Annotated[Outcome | None, typer.Option(help="Only runs with this outcome.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many.")] = 1000,
    output: Output = None,
) -> None:
    """What became of each run."""
    with connected() as client:
        rows = list(islice(client.operation(operation).all_outcomes(outcome=outcome), limit + 1))
    listing(
        rows[:limit],
        {
            "run": lambda row: row.run_id,
            "outcome": lambda row: row.outcome,
            "at": lambda row: row.at,
            "note": lambda row: row.detail,
        },
        output,
        empty="No run has that outcome.",
    )
    if len(rows) > limit:
        note(f"{limit:,} are shown, and there are more. See more: --limit.")


@verb(app, "watch")
def watch(operation: Id, output: Output = None) -> None:
    """Follow an operation until it is over."""
    with connected() as client:
        bulk.end(bulk.follow(client, client.operation(operation)), output)


@verb(app, "pause")
def pause(operation: Id, by: Who = None, output: Output = None) -> None:
    """Begin nothing more of it until it is resumed."""
    with connected() as client:
        _report(client.operation(operation).pause(by=by), output)


@verb(app, "resume")
def resume(operation: Id, by: Who = None, output: Output = None) -> None:
    """Go on with it."""
    with connected() as client:
        _report(client.operation(operation).resume(by=by), output)


@verb(app, "cancel")
def cancel(operation: Id, by: Who = None, output: Output = None) -> None:
    """Leave the runs alone whose turn has not come; what was done stays done."""
    with connected() as client:
        _report(client.operation(operation).cancel(by=by), output)


def _report(row: "OperationRow", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json(row, lines=output is Format.JSONL)
        return
    print(f"{row.id}  {row.state}")
    note(f"{row.total - row.pending:,} of {row.total:,} runs have their outcome.")
