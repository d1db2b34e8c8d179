"""`orchestrator key`: the keys by which programs reach the API."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Output, Who, connected, group, moment, span, verb
from orchestrator.cli.render import Format, listing, note, print_json, text
from orchestrator.core.access import Grant, Role, Scope

if TYPE_CHECKING:
    from orchestrator.client.groups.keys import KeyMade
    from orchestrator.ledger.access import Expiry

app = group("API keys: create, list, rotate, revoke.")

Key = Annotated[str, typer.Argument(metavar="KEY", help="The id of a key, or its name.")]
Expires = Annotated[
    str | None, typer.Option(metavar="TIME", help="When it ends: 90d from now, or 2027-01-01. Without it: never.")
]


@verb(app, "create", "new", "add")
def create(
    name: Annotated[str, typer.Option(metavar="NAME", help="Who or what uses it.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.VIEWER,
    scope: Annotated[list[Scope] | None, typer.Option(help="Only such things; may be given several times.")] = None,
    flow: Annotated[
        list[str] | None, typer.Option(metavar="FLOW", help="Only in this flow; may be given several times.")
    ] = None,
    expires: Expires = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Make a key and print it. It is shown this once: the ledger keeps what it is checked by, not the key."""
    from orchestrator.engine.access.keys import NEVER

    grant = Grant(role, frozenset(scope or ()), frozenset(flow or ()))
    with connected() as client:
        made = client.keys.create(name, grant, expires=_expiry(expires) or NEVER, by=by)
    _show_once(made, output)


@verb(app, "ls", "list")
def ls(
    ended: Annotated[bool, typer.Option("--all", help="Also those that were revoked or have expired.")] = False,
    output: Output = None,
) -> None:
    """List keys: what they may do, when they end, when they were used last."""
    with connected() as client:
        rows = client.keys.listed(ended=ended)
    listing(
        rows,
        {
            "id": lambda row: row.id,
            "name": lambda row: row.name,
            "role": lambda row: row.role,
            "scopes": lambda row: list(row.scopes) or "all",
            "flows": lambda row: list(row.flows) or "all",
            "state": lambda row: row.state,
            "expires": lambda row: row.expires_at,
            "last used": lambda row: row.last_used_at or "never",
            "created by": lambda row: row.created_by,
        },
        output,
        empty="There are no keys. Make one: orchestrator key create --name NAME --role operator",
    )


@verb(app, "rotate")
def rotate(
    key: Key,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long the key before works on.")] = "1d",
    expires: Expires = None,
    by: Who = None,
    output: Output = None,
) -> None:
    """Make a key like that one and print it; the one before works on for a while. Without --expires it lives as long
    as the other was made to."""
    with connected() as client:
        made = client.keys.rotate(key, overlap=span(overlap), expires=_expiry(expires), by=by)
    _show_once(made, output)
    note(f"The key before works for {overlap} more: put the new one in its place.")


@verb(app, "revoke", "delete", "rm")
def revoke(
    key: Key,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    by: Who = None,
) -> None:
    """End a key by its id, or every key of a name, everywhere within five seconds."""
    with connected() as client:
        ended = client.keys.revoke(key, reason=reason, by=by)
    for row in ended:
        print(f"{row.id}  {text(row.name)}  revoked")


def _show_once(made: "KeyMade", output: Format | None) -> None:
    row = made.shown
    if output in (Format.JSON, Format.JSONL):
        print_json({**asdict(row), "key": made.key}, lines=output is Format.JSONL)
    else:
        print(made.key)
    note(f"Key {row.id} ({text(row.name)}), {row.role}. It is not shown again: keep it in a safe place.")


def _expiry(given: str | None) -> "Expiry | None":
    from datetime import timedelta

    from orchestrator.ledger.access import Expiry

    at = moment(given)
    if at is None:
        return None
    return Expiry(after=at) if isinstance(at, timedelta) else Expiry(at=at)
