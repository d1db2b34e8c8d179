"""`orchestrator webhook`: what publishers call, what came, and trying it out."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import uuid4

import typer

from orchestrator.cli.options import Output, connected, group, span, verb
from orchestrator.cli.render import Format, facts, listing, note, print_json, short, table
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.ledger.reads.rows import DeliveryRow

app = group("Webhooks: list, see what came and why it was refused, replay, try out.")
Slug = Annotated[str, typer.Argument(metavar="SLUG", help="A webhook.")]
MaybeSlug = Annotated[str | None, typer.Argument(metavar="[SLUG]", help="Only this webhook.")]
DeliveryId = Annotated[
    str, typer.Argument(metavar="ID", help="A delivery's id, or its last characters, at least four.")
]
Lately = Annotated[str, typer.Option(metavar="LENGTH", help="What came in this time, such as 1h or 7d.")]
_DAY: Final = "24h"
_COLUMNS: Final[Mapping[str, Callable[["DeliveryRow"], object]]] = {
    "id": lambda row: short(row.id),
    "webhook": lambda row: row.slug,
    "received": lambda row: row.received_at,
    "outcome": lambda row: row.outcome if row.count == 1 else f"{row.outcome} ×{row.count}",
    "status": lambda row: row.status,
    "run": lambda row: short(row.run_id) if row.run_id else "",
    "gate": lambda row: row.gate or "",
    "why": lambda row: (row.why or "")[:60],
    "from": lambda row: row.address or "",
}


@verb(app, "ls", "list")
def ls(since: Lately = _DAY, output: Output = None) -> None:
    """List webhooks: whose they are, and how much came lately."""
    with connected() as client:
        rows = client.webhooks.listed(span(since))
    listing(
        rows,
        {
            "webhook": lambda row: row.slug,
            "flow": lambda row: row.flow,
            "scheme": lambda row: row.scheme,
            "mode": lambda row: row.mode or "",
            "enabled": lambda row: row.enabled,
            "accepted": lambda row: row.accepted,
            "refused": lambda row: row.refused or "",
            "last": lambda row: row.last_at,
        },
        output,
        empty='No flow has a webhook. Add one to its code: `@flow(webhooks=[Webhook("orders", scheme="github", …)])`.',
    )


@verb(app, "recent", "deliveries")
def recent(
    slug: MaybeSlug = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    output: Output = None,
) -> None:
    """What came, accepted or not, newest first."""
    with connected() as client:
        rows = client.webhooks.recent(slug, "refused" if refused else None, limit=limit)
    listing(rows, _COLUMNS, output, empty="Nothing came.")


@verb(app, "show", "get")
def show(delivery: DeliveryId, output: Output = None) -> None:
    """Show a delivery: gate by gate, why, and what it said, without secrets."""
    with connected() as client:
        found = client.webhooks.get(delivery)
    if output in (Format.JSON, Format.JSONL):
        print_json(asdict(found), lines=output is Format.JSONL)
        return
    hidden = ("verdicts", "headers", "body", "replayable")
    facts({name: value for name, value in asdict(found).items() if name not in hidden})
    if found.verdicts:
        print()
        table(
            ["gate", "passed", "why"],
            [[str(one[name]) for name in ("gate", "passed", "why")] for one in found.verdicts],
        )
    print("\nbody:")
    print_json(found.body)
    if found.replayable:
        note(f"Once the reason is gone: orchestrator webhook replay {short(found.id)}")


@verb(app, "stats")
def stats(slug: MaybeSlug = None, since: Lately = _DAY, output: Output = None) -> None:
    """Count what came, by outcome and by the gate that refused it."""
    with connected() as client:
        rows = client.webhooks.counts(slug, span(since))
    listing(
        rows,
        {
            "webhook": lambda row: row.slug,
            "outcome": lambda row: row.outcome,
            "gate": lambda row: row.gate or "",
            "count": lambda row: row.count,
            "bytes": lambda row: row.bytes,
            "by the previous key": lambda row: row.previous_key or "",
            "last": lambda row: row.last_at,
        },
        output,
        empty=f"Nothing came in {since}.",
    )


@verb(app, "replay", "retry")
def replay(
    deliveries: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Deliveries, by id.")] = None,
    slug: Annotated[str | None, typer.Option("--all", metavar="SLUG", help="All that this webhook refused.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --all: at most this many.")] = 100,
    output: Output = None,
) -> None:
    """Take deliveries that were refused through the gates again, as they are now, at the time that they came.

    Their secrets are read by the API; without one (ORCHESTRATOR_API_URL) here: run it where the variables are that the
    API has. Exit code 1: one was refused again.
    """
    if (deliveries is None) == (slug is None):
        raise UsageError("Name deliveries, or a webhook with --all. Fix: one of the two.")
    with connected() as client:
        if slug is None:
            ids = [client.webhooks.get(one).id for one in deliveries or ()]
        else:
            rows = client.webhooks.recent(slug, "refused", limit=limit)
            ids = [row.id for row in reversed(rows) if row.replayable]
        done = [client.webhooks.replay(one) for one in ids]
    listing(
        list(zip(ids, done, strict=True)),
        {
            "delivery": lambda pair: short(pair[0]),
            "outcome": lambda pair: pair[1].outcome,
            "status": lambda pair: pair[1].status,
            "run": lambda pair: short(pair[1].run_id) if pair[1].run_id else "",
            "why": lambda pair: (pair[1].why or "")[:80],
        },
        output,
        empty="There is nothing to replay.",
    )
    if any(one.why is not None for one in done):
        raise typer.Exit(1)


@verb(app, "test", "try")
def try_out(
    slug: Slug,
    body: Annotated[str | None, typer.Option(metavar="JSON|@FILE", help="What it says; else a small object.")] = None,
    url: Annotated[
        str, typer.Option(metavar="URL", help="Where the API is.", envvar="ORCHESTRATOR_API_URL")
    ] = "http://127.0.0.1:8000",
    id: Annotated[str | None, typer.Option(help="Of the delivery; else a new one.")] = None,
) -> None:
    """Sign a sample as the webhook's publisher would, and post it: a true delivery, which starts a run.

    The secret is read here, by the reference that the webhook has. Exit code 1: it was refused.
    """
    import httpx2

    from orchestrator.engine.webhooks.gatekeeper import Gatekeeper
    from orchestrator.servers.secrets import References
    from orchestrator.webhooks import samples
    from orchestrator.webhooks.gates import Door

    with connected() as client:
        door = Door.of(slug, client.webhooks.trigger(slug))
    secrets = Gatekeeper(References(os.environ)).secrets(door.trigger)
    if secrets.current is None:
        raise UsageError(f"The sample cannot be signed: {secrets.missing}. Fix: set it here, as for the API.")
    posted = f"{url.rstrip('/')}/api/webhook/{slug}"
    given = _read(body)
    request = samples.signed(
        door.scheme, secrets.current, given, door.trigger.url or posted, datetime.now(UTC), id or f"test-{uuid4().hex}"
    )
    query = request.url.partition("?")[2]
    try:
        answer = httpx2.post(
            posted + (f"?{query}" if query else ""), content=request.body, headers=list(request.headers), timeout=30
        )
    except httpx2.HTTPError as exc:
        raise UsageError(f"{posted} cannot be reached: {exc}. Fix: start the API, or give --url.") from exc
    print(answer.status_code, answer.text)
    if answer.is_error:
        note(f"Why: orchestrator webhook recent {slug} --refused")
        raise typer.Exit(1)


def _read(body: str | None) -> bytes:
    from orchestrator.webhooks.samples import BODY

    if body is None:
        return BODY
    return Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
