"""`orchestrator subscription`: who is told what happens, where, and how they do."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.options import Output, Who, connected, group, span, verb
from orchestrator.cli.render import Format, facts, listing, note, print_json, short, table, text
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.client.groups.subscriptions import SubscriptionMade

app = group("Subscriptions: tell others what happens. Create, list, change, rotate, delete, try out.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A subscription's name, or its id.")]
Type = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="EVENT", help="What is told, such as run.failed; may be given several times."),
]
Where = Annotated[str | None, typer.Option("--where", metavar="QUERY", help="Of which runs, as `run ls` takes it.")]
Include = Annotated[
    list[str] | None, typer.Option(metavar="output", help="Tell what a run returned as well, without its secrets.")
]
Secret = Annotated[
    str | None, typer.Option(metavar="REFERENCE", help="env:NAME or file:/path; without it one is made and shown.")
]


@verb(app, "create", "new", "add")
def create(
    name: Name,
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="A URL, an e-mail address, or a reference: env:NAME, file:/path.")
    ],
    on: Type = None,
    kind: Annotated[Literal["json", "slack", "email"], typer.Option(help="How it is written.")] = "json",
    where: Where = None,
    include: Include = None,
    secret: Secret = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Tell somebody what happens from now on. A secret that is made is printed this once."""
    from orchestrator.engine.subscriptions.manage import wanted_of

    wanted = wanted_of(
        kind=kind, address=address, types=_types(on), q=where or "", include=tuple(include or ()), secret=secret
    )
    with connected() as client:
        made = client.subscriptions.create(name, wanted, by=by)
    _show_once(made, output)
    note(f"Try it: orchestrator subscription test {text(name)}")


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List subscriptions, and how their endpoints do."""
    with connected() as client:
        rows = client.subscriptions.listed()
    listing(
        rows,
        {
            "name": lambda row: row.name,
            "kind": lambda row: row.kind,
            "address": lambda row: row.address,
            "on": lambda row: list(row.types),
            "where": lambda row: row.q or "all runs",
            "enabled": lambda row: row.why_disabled or row.enabled,
            "breaker": lambda row: row.breaker,
            "by": lambda row: row.created_by,
        },
        output,
        empty="Nobody is told anything. Begin: orchestrator subscription create NAME URL --on run.failed",
    )


@verb(app, "show", "get")
def show(name: Name, output: Output = None) -> None:
    """Show a subscription: what it says, how its endpoint does, and what it was told in a day."""
    with connected() as client:
        found = client.subscriptions.get(name)
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(found), lines=output is Format.JSONL)
        return
    facts({key: value for key, value in asdict(found.shown).items() if value is not None})
    if found.lately:
        print()
        rows = [[state, count.n, count.at_first] for state, count in found.lately.items()]
        table(["in a day", "notifications", "by one try"], rows)
    if found.shown.breaker != "closed":
        note("Nothing is sent to its endpoint until it is tried again; see `orchestrator notification ls` for why.")


@verb(app, "update", "set", "edit")
def update(
    name: Name,
    address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Another one.")] = None,
    on: Type = None,
    where: Where = None,
    include: Include = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Tell it, or nothing more.")] = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Change what is given. Enabled again, it is told what happens from then on."""
    given: dict[str, Any] = {"address": address, "types": on, "q": where, "include": include}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes and enable is None:
        raise UsageError("Nothing is to be changed. Fix: give --address, --on, --where, --include or --disable.")
    with connected() as client:
        row = client.subscriptions.update(name, changes, enabled=enable, by=by)
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(row), lines=output is Format.JSONL)
    else:
        facts({key: value for key, value in asdict(row).items() if value is not None})


@verb(app, "rotate")
def rotate(
    name: Name,
    secret: Secret = None,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long the one before signs as well.")] = "1d",
    by: Who = None,
    output: Output = None,
) -> None:
    """Give it another secret, which is printed if it is made here. For a while both sign."""
    with connected() as client:
        made = client.subscriptions.rotate(name, secret=secret, overlap=span(overlap), by=by)
    _show_once(made, output)
    note(f"The secret before signs for {overlap} more: put the new one in its place.")


@verb(app, "delete", "rm")
def delete(
    name: Name,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    by: Who = None,
) -> None:
    """Tell it nothing more, and forget what it was told."""
    with connected() as client:
        row = client.subscriptions.delete(name, reason=reason, by=by)
    print(f"{text(row.name)}  deleted")


@verb(app, "test", "try")
def try_out(name: Name, by: Who = None) -> None:
    """Send it a notification that says that it is a test. A worker sends it, within seconds."""
    with connected() as client:
        id = client.subscriptions.test(name, by=by)
    print(id)
    note(f"What came of it: orchestrator notification show {short(id)}")


def _types(given: list[str] | None) -> tuple[str, ...]:
    if not given:
        raise UsageError("Nothing is to be told. Fix: give --on, as in --on run.failed --on run.timed_out.")
    return tuple(given)


def _show_once(made: "SubscriptionMade", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json({**asdict(made.shown), "made_secret": made.secret}, lines=output is Format.JSONL)
    elif made.secret is not None:
        print(made.secret)
    if made.secret is not None:
        note(f"The secret of {text(made.shown.name)}. It is not shown again: give it to whoever receives.")
