"""`orchestrator key`: the keys by which programs reach the API."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import Output, Who, actor, connected, group, moment, span, verb
from orchestrator.cli.render import Format, listing, note, print_json, text
from orchestrator.core.access import Grant, Role, Scope

if TYPE_CHECKING:
    from orchestrator.engine.access.keys import MadeKey
    from orchestrator.ledger.access import Expiry, KeyRow

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
    from orchestrator.engine.access import keys

    grant = Grant(role, frozenset(scope or ()), frozenset(flow or ()))
    with connected() as client:
        made = client.call_once(keys.create, name, grant, actor(by), _expiry(expires) or keys.NEVER)
    _show_once(made, output)


@verb(app, "ls", "list")
def ls(
    ended: Annotated[bool, typer.Option("--all", help="Also those that were revoked or have expired.")] = False,
    output: Output = None,
) -> None:
    """List keys: what they may do, when they end, when they were used last."""
    from orchestrator.engine.access import keys

    with connected() as client:
        rows = client.call(keys.listed, ended=ended)
    if output in (Format.JSON, Format.JSONL):
        print_json([_plain(row) for row in rows], lines=output is Format.JSONL)
        return
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
    from orchestrator.engine.access import keys

    with connected() as client:
        made = client.call_once(keys.rotate, key, actor(by), overlap=span(overlap), expiry=_expiry(expires))
    _show_once(made, output)
    note(f"The key before works for {overlap} more: put the new one in its place.")


@verb(app, "revoke", "delete", "rm")
def revoke(
    key: Key,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    by: Who = None,
) -> None:
    """End a key by its id, or every key of a name, everywhere within five seconds."""
    from orchestrator.engine.access import keys

    with connected() as client:
        ended = client.call_once(keys.revoke, key, actor(by), reason=reason)
    for row in ended:
        print(f"{row.id}  {text(row.name)}  revoked")


def _show_once(made: "MadeKey", output: Format | None) -> None:
    if output in (Format.JSON, Format.JSONL):
        print_json({**_plain(made.row), "key": made.text}, lines=output is Format.JSONL)
    else:
        print(made.text)
    note(f"Key {made.row.id} ({text(made.row.name)}), {made.row.role}. It is not shown again: keep it in a safe place.")


def _plain(row: "KeyRow") -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "scopes": list(row.scopes),
        "flows": list(row.flows),
        "state": row.state,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
        "revoked_at": row.revoked_at,
        "revoked_by": row.revoked_by,
        "replaced_by": row.replaced_by,
    }


def _expiry(given: str | None) -> "Expiry | None":
    from datetime import timedelta

    from orchestrator.ledger.access import Expiry

    at = moment(given)
    if at is None:
        return None
    return Expiry(after=at) if isinstance(at, timedelta) else Expiry(at=at)
