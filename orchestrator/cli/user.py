"""`orchestrator user`: people who sign in with a password."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.options import Output, Who, connected, group, verb
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
    password = _password(password_stdin)
    with connected() as client:
        row = client.users.create(name, role, password, by=by)
    print(f"{row.name}  {row.role}")


@verb(app, "ls", "list")
def ls(output: Output = None) -> None:
    """List users: their role, whether they are disabled, when they signed in last."""
    with connected() as client:
        rows = client.users.listed()
    if output in (Format.JSON, Format.JSONL):
        plain = [{**asdict(row), "disabled": row.disabled_at is not None} for row in rows]
        print_json(plain, lines=output is Format.JSONL)
        return
    listing(
        rows,
        {
            "name": lambda row: row.name,
            "role": lambda row: row.role,
            "groups": lambda row: list(row.groups),
            "password": lambda row: row.password,
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
    password = _password(password_stdin)
    with connected() as client:
        client.users.set_password(name, password, by=by)
    note(f"{name} has a new password, and is signed out everywhere.")


@verb(app, "role")
def role(name: Name, role: Annotated[Role, typer.Argument(help="What they may do.")], by: Who = None) -> None:
    """Give a user another role, in their open sessions too."""
    with connected() as client:
        row = client.users.set_role(name, role, by=by)
    print(f"{row.name}  {row.role}")


@verb(app, "disable")
def disable(
    name: Name,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the record.")] = None,
    by: Who = None,
) -> None:
    """Let a user in no more, and end their sessions."""
    with connected() as client:
        client.users.disable(name, reason=reason, by=by)
    print(f"{name}  disabled")


@verb(app, "enable")
def enable(name: Name, by: Who = None) -> None:
    """Let a user in again."""
    with connected() as client:
        client.users.enable(name, by=by)
    print(f"{name}  enabled")


def _password(from_stdin: bool) -> str:
    if not from_stdin and not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password. Fix: give it on stdin, with --password-stdin.")
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
