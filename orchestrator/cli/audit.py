"""`orchestrator audit`: what people and programs did."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import Most, Output, Since, Until, Who, actor, connected, group, ledger_itself, verb, when
from orchestrator.cli.render import listing, note
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ledger.access import AuditRow

app = group("The audit: who did what, to what, from where.")


@verb(app, "ls", "list")
def ls(
    who: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Only what they did.")] = None,
    action: Annotated[str | None, typer.Option(metavar="ACTION", help="Only this, such as key.revoke.")] = None,
    target: Annotated[str | None, typer.Option(metavar="TARGET", help="Only to this, such as user/ann.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Most = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only rows with a smaller id.")] = None,
    output: Output = None,
) -> None:
    """List what was done, the newest first."""
    from orchestrator.ledger.access import AuditFilter

    wanted = AuditFilter(actor=who, action=action, target=target, since=when(since), until=when(until))
    with connected() as client:
        rows = client.audit.listed(wanted, limit=limit + 1, before=before)
    shown = rows[:limit]
    listing(
        shown,
        {
            "id": lambda row: row.id,
            "at": lambda row: row.at,
            "by": lambda row: row.actor,
            "action": lambda row: row.action,
            "target": lambda row: row.target,
            "change": _change,
            "reason": lambda row: row.reason,
            "address": lambda row: row.address,
        },
        output,
        empty="Nothing like that was done.",
    )
    if len(rows) > limit:
        note(f"{limit:,} rows are shown, and there are more. Continue with --before {shown[-1].id}.")


@verb(app, "purge")
def purge(
    until: Annotated[str, typer.Option(metavar="TIME", help="What was done before: 400d ago, or 2026-01-01.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Who = None,
) -> None:
    """Forget what was done before a time. Only the owner of the schema may, not the role of the running processes."""
    from orchestrator.engine.access import audit

    at = when(until)
    if at is None:
        raise UsageError("There is no time. Fix: give --until, such as 400d.")
    if not yes:
        typer.confirm(f"Forget for good what was done before {at.isoformat()}?", abort=True, err=True)
    with ledger_itself() as client:
        gone = client.call_once(audit.purge, at, actor(by))
    note(f"{gone:,} rows are gone. That you did this is kept.")


def _change(row: "AuditRow") -> str:
    """What differs, in a line."""
    was, became = row.was or {}, row.became or {}
    if not was or not became:
        return json.dumps(dict(was or became), ensure_ascii=False) if was or became else ""
    changed = [key for key in {**was, **became} if was.get(key) != became.get(key)]
    return ", ".join(f"{key}: {was.get(key)} → {became.get(key)}" for key in changed)
