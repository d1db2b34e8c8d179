"""Remove a flow that the code does not have any more."""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Connection

from orchestrator.core.wording import counted
from orchestrator.errors import Conflict
from orchestrator.ledger import definitions, reads, ticks
from orchestrator.ledger.definitions import Holders
from orchestrator.ledger.tx import Ledger


def delete(ledger: Ledger, flow: str, by: str, worker_ttl: timedelta = reads.workers.TTL) -> None:
    """The flow is not registered any more: no start, no schedule. Its events keep who removed it.

    Runs that ended can be read as before: their versions are kept as long as the flow has runs. Code that has the flow
    registers it anew.

    Raises:
        FlowNotFound: no such flow.
        Conflict: something needs it; all of that is named.
    """

    def work(tx: Connection) -> None:
        definitions.hold(tx, flow)
        ticks.hold_all(tx, flow)
        holders = definitions.holders(tx, flow, worker_ttl)
        if holders is None:
            raise definitions.unknown_flow(tx, flow)
        needs = list(_needs(flow, holders))
        if needs:
            held, fixes = "; ".join(need for need, _ in needs), "; ".join(fix for _, fix in needs)
            raise Conflict(f"Flow {flow} cannot be deleted: {held}. Fix: {fixes}.", flow=flow)
        definitions.forget(tx, flow, by)

    ledger.retry(work)


def _needs(flow: str, holders: Holders) -> Iterator[tuple[str, str]]:
    """What holds it, and what to do about that."""
    if holders.open_runs:
        has = "is" if holders.open_runs == 1 else "are"
        yield (
            f"{counted(holders.open_runs, 'run')} of it {has} open",
            f"let them end, or cancel them; `orchestrator run ls --flow {flow}` lists them",
        )
    if holders.schedules:
        fires = "fires" if len(holders.schedules) == 1 else "fire"
        names = ", ".join(holders.schedules)
        yield f"its schedule {names} {fires}", f"`orchestrator flow disable {flow}` stops schedules and starts"
    if holders.backfills:
        yield (
            f"{counted(holders.backfills, 'backfill')} of it goes on",
            f"`orchestrator schedule show {flow}` names it; end it with `schedule backfill --cancel`",
        )
    if holders.workers:
        have = "has" if len(holders.workers) == 1 else "have"
        yield (
            f"{counted(len(holders.workers), 'live worker')} {have} its code ({', '.join(holders.workers[:3])})",
            "start the workers without it, because they would register it again",
        )
