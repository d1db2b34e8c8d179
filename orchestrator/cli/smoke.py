"""`orchestrator smoke`: go the whole way of a run, through every queue. And `orchestrator evidence`: what was tried."""

from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import JsonValue

from orchestrator.cli.options import Output, Who, connected, group, seconds, settings, verb, when
from orchestrator.cli.render import Format, ago, listing, note, print_json, table
from orchestrator.core.evidence import Kind
from orchestrator.errors import WaitTimeout

if TYPE_CHECKING:
    from orchestrator.cli.options import AnyClient
    from orchestrator.doctor import Finding
    from orchestrator.engine.smoke import Canary

evidence: Final = group("What was tried and found out: backups, drills, smoke tests.")


@dataclass(frozen=True, slots=True)
class Passed:
    """How the run through a queue ended, and after how long."""

    queue: str
    status: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.status == "succeeded"


def smoke(
    queues: Annotated[
        list[str] | None, typer.Option("--queue", metavar="QUEUE", help="Only this; may be repeated.")
    ] = None,
    timeout: Annotated[str, typer.Option(help="How long the runs may take, all together.")] = "1m",
    record: Annotated[bool, typer.Option(help="Keep the outcome, for checks and alerts.")] = True,
    who: Who = None,
    output: Output = None,
) -> None:
    """Send a run that does nothing through every queue that is served, wait for each, and ask `doctor` about the rest.
    Exit code 0: all went well; 1: something did not."""
    from orchestrator.cli.doctor import findings

    limit = seconds(timeout) or 0.0
    with connected() as client:
        began = monotonic()
        canaries = client.trials.smoke(queues or (), by=who)
        passed = [_ended(client, one, began, limit) for one in canaries]
        found = [one for one in findings() if one.status == "fail"]
        ok = not found and all(one.ok for one in passed)
        if record:
            _record(client, passed, found, who)
    if output in (Format.JSON, Format.JSONL):
        told = {"ok": ok, "queues": [asdict(one) for one in passed], "failed": found}
        print_json(told, lines=output is Format.JSONL)
    else:
        table(["queue", "run", "took"], [(one.queue, one.status, f"{one.seconds:.2f} s") for one in passed])
        for one in found:
            note(f"{one.check}: {one.finding}. Fix: {one.fix}")
        for late in (one for one in passed if one.status == "open"):
            note(f"The run through {late.queue} has not ended. Fix: see `orchestrator queue ls` and `worker ls`.")
    if not ok:
        raise typer.Exit(1)


def _ended(client: "AnyClient", canary: "Canary", began: float, limit_s: float) -> Passed:
    left_s = max(0.1, limit_s - (monotonic() - began))
    handle = client.run(canary.run_id)
    try:
        status = handle.wait(left_s).value
    except WaitTimeout:
        handle.cancel("the smoke test gave up")
        status = "open"
    return Passed(canary.queue, status, monotonic() - began)


def _record(client: "AnyClient", passed: list[Passed], found: "list[Finding]", who: str | None) -> None:
    from orchestrator.ledger.evidence import Tried

    facts: dict[str, JsonValue] = {
        "queues": {one.queue: {"run": one.status, "seconds": round(one.seconds, 3)} for one in passed},
        "failed": [f"{one.check}: {one.finding}" for one in found],
        "release": settings().release,
    }
    ok = not found and all(one.ok for one in passed)
    client.trials.record(Tried(Kind.SMOKE, ok, facts), by=who)


@verb(evidence, "ls", "list")
def ls(
    kind: Annotated[Kind | None, typer.Argument(metavar="[KIND]", help="Only of this kind, the last twenty.")] = None,
    output: Output = None,
) -> None:
    """List when backups, drills and smoke tests were, and how they went."""
    with connected() as client:
        rows = client.trials.last(kind, limit=20 if kind is not None else 1)
    listing(
        rows,
        {
            "kind": lambda row: str(row.kind),
            "when": lambda row: ago(row.at),
            "went": lambda row: "well" if row.ok else "badly",
            "by": lambda row: row.by,
            "found": lambda row: ", ".join(f"{name}: {_short(value)}" for name, value in row.facts.items() if value),
        },
        output,
        empty="Nothing was tried yet. Begin with `orchestrator smoke`.",
    )


def _short(value: JsonValue) -> str:
    """The names of what has some, and the items of lists."""
    return ", ".join(map(str, value)) if isinstance(value, dict | list) else str(value)


@verb(evidence, "record")
def record(
    kind: Annotated[Kind, typer.Argument(help="What was tried.")],
    note_: Annotated[str, typer.Option("--note", help="What was found, for others to read.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="It did not go well.")] = False,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When, if not now: 2h for two hours ago.")] = None,
    who: Who = None,
) -> None:
    """Record that something was tried elsewhere: a failover, a backup of a provider, an alert that reached somebody."""
    from orchestrator.ledger.evidence import Tried

    facts: dict[str, JsonValue] = {"note": note_} if note_ else {}
    with connected() as client:
        kept = client.trials.record(Tried(kind, not failed, facts, when(at)), by=who)
    note(f"Recorded: {kept.kind}, {ago(kept.at)}, {'went well' if kept.ok else 'failed'}.")
