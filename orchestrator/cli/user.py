"""`orchestrator user`: people who sign in with a password."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.options import Output, Who, actor, connected, group, verb
from orchestrator.cli.render import Format, listing, note, print_json
from orchestrator.core.access import Role
from orchestrator.errors import UsageError

app = group("Users: create, list, change a password or a role, disable, enable.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What they sign in with.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin, a line of it.")]


@verb(app, "create", "new", "add")
def create(
    name: Name,
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.VIEWER,
    password_stdin: FromStdin = False,
    by: Who = None,
) -> None:
    """Add a user; asks for the password."""
    from orchestrator.engine.access import users

    password = _password(password_stdin)
    with connected() as client:
        row = client.call_once(users.create, name, role, password, actor(by))
    print(f"{row.name}  {row.role}")


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List users: their role, whether they are disabled, when they signed in last."""
    from orchestrator.engine.access import users

    with connected() as client:
        rows = client.call(users.listed)
    if output in (Format.JSON, Format.JSONL):
        dated = [
            {
                **users.shown(row),
                "created_at": row.created_at,
                "created_by": row.created_by,
                "disabled_at": row.disabled_at,
                "signed_in_at": row.signed_in_at,
            }
            for row in rows
        ]
        print_json(dated, lines=output is Format.JSONL)
        return
    listing(
        rows,
        {
            "name": lambda row: row.name,
            "role": lambda row: row.role,
            "groups": lambda row: list(row.groups),
            "password": lambda row: row.password_hash is not None,
            "disabled": lambda row: row.disabled_at or "",
            "signed in": lambda row: row.signed_in_at or "never",
            "created by": lambda row: row.created_by,
        },
        output,
        empty="There are no users. Add one: orchestrator user create NAME --role operator",
    )


@verb(app, "passwd", "password")
def passwd(name: Name, password_stdin: FromStdin = False, by: Who = None) -> None:
    """Give a user another password; asks for it. Their sessions end."""
    from orchestrator.engine.access import users

    password = _password(password_stdin)
    with connected() as client:
        client.call_once(users.set_password, name, password, actor(by))
    note(f"{name} has a new password, and is signed out everywhere.")


@verb(app, "role")
def role(name: Name, role: Annotated[Role, typer.Argument(help="What they may do.")], by: Who = None) -> None:
    """Give a user another role, in their open sessions too."""
    from orchestrator.engine.access import users

    with connected() as client:
        row = client.call(users.set_role, name, role, actor(by))
    print(f"{row.name}  {row.role}")


@verb(app, "disable")
def disable(
    name: Name,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    by: Who = None,
) -> None:
    """Let a user in no more, and end their sessions."""
    from orchestrator.engine.access import users

    with connected() as client:
        client.call(users.disable, name, actor(by), reason=reason)
    print(f"{name}  disabled")


@verb(app, "enable")
def enable(name: Name, by: Who = None) -> None:
    """Let a user in again."""
    from orchestrator.engine.access import users

    with connected() as client:
        client.call(users.enable, name, actor(by))
    print(f"{name}  enabled")


def _password(from_stdin: bool) -> str:
    if not from_stdin and not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password. Fix: give it on stdin, with --password-stdin.")
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
