"""`orchestrator notification`: what subscriptions are told, and sending it again."""

from dataclasses import asdict
from typing import Annotated

import typer

from orchestrator.cli.options import Output, Who, connected, group, verb
from orchestrator.cli.render import Format, ago, facts, listing, note, print_json, short, table
from orchestrator.core.subscriptions import NotificationState
from orchestrator.errors import UsageError

app = group("Notifications: what subscriptions are told. List, look, send again.")

Id = Annotated[str, typer.Argument(metavar="ID", help="A notification's id, or its last characters, at least four.")]


@verb(app, "ls", "list")
def ls(
    subscription: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only of this subscription.")] = None,
    state: Annotated[NotificationState | None, typer.Option(help="Only those that stand so.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    output: Output = None,
) -> None:
    """What was, is and will be sent, newest first."""
    with connected() as client:
        rows = client.notifications.listed(subscription, state, limit=limit)
    listing(
        rows,
        {
            "id": lambda row: short(row.id),
            "subscription": lambda row: row.subscription,
            "event": lambda row: row.type,
            "run": lambda row: short(row.run_id) if row.run_id else "",
            "state": lambda row: row.state,
            "attempts": lambda row: row.claims,
            "happened": lambda row: ago(row.at),
            "due": lambda row: row.due_at if row.state is NotificationState.PENDING else "",
            "status": lambda row: row.status or "",
            "why": lambda row: (row.error or "")[:60],
        },
        output,
        empty="Nothing was sent.",
    )


@verb(app, "show", "get")
def show(notification: Id, output: Output = None) -> None:
    """Show a notification: what it says, and each attempt to send it."""
    with connected() as client:
        found = client.notifications.get(notification)
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(found), lines=output is Format.JSONL)
        return
    facts({key: value for key, value in asdict(found).items() if key not in ("data", "attempts")})
    if found.attempts:
        print()
        rows = [[one.attempt, one.at, f"{one.duration_ms} ms", one.status, one.error] for one in found.attempts]
        table(["attempt", "at", "took", "status", "why"], rows)
    print("\ndata:")
    print_json(found.data)
    if found.state is NotificationState.DEAD:
        note(f"Once the reason is gone: orchestrator notification redrive {short(found.id)}")


@verb(app, "redrive", "retry")
def redrive(
    notifications: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Notifications, by id.")] = None,
    subscription: Annotated[
        str | None, typer.Option("--all", metavar="NAME", help="All that are dead of this subscription.")
    ] = None,
    by: Who = None,
) -> None:
    """Send dead notifications again, now, with the ids that they had."""
    if (notifications is None) == (subscription is None):
        raise UsageError("Name notifications, or a subscription with --all. Fix: one of the two.")
    with connected() as client:
        if subscription is None:
            done = [client.notifications.redrive(one, by=by) for one in notifications or ()]
        else:
            done = client.subscriptions.redrive(subscription, by=by)
    print(f"{len(done):,} are sent again")
