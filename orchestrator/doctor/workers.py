"""Checks of the workers, as the ledger sees them."""

from collections.abc import Sequence
from typing import Final

from orchestrator.core.wording import counted
from orchestrator.doctor.findings import Finding, failed, passed, warned
from orchestrator.doctor.ground import Ground
from orchestrator.ledger import reads
from orchestrator.ledger.reads.rows import UnservedRow, WorkerRow

NOBODY: Final = warned("workers", "no live worker", "start one: `orchestrator worker --flows MODULE`.")


def workers(ground: Ground) -> list[Finding]:
    """Some are there, and messages reach them."""
    if ground.ledger is None or not ground.is_migrated:
        return []
    known = reads.workers.every(ground.ledger, ground.settings.worker_ttl)
    live = [row for row in known if row.live and not row.is_keeper]
    if not live:
        return nobody(known)
    now, ttl = reads.clock.now(ground.ledger), ground.settings.worker_ttl
    # The probe takes a turn through the queue, so it may be older than a heartbeat.
    deaf = [row.id for row in live if row.consumed_at is None or now - row.consumed_at > 2 * ttl]
    if deaf:
        fix = "restart them if this lasts: they are connected, and take no messages."
        return [warned("workers", f"{len(deaf)} of {len(live)} take no messages: {', '.join(deaf)}", fix)]
    return [passed("workers", f"{len(live)} live, all take messages")]


def nobody(known: Sequence[WorkerRow]) -> list[Finding]:
    """No worker is live. That may be as it should be where a keeper is."""
    keepers = sum(row.live and row.is_keeper for row in known)
    return [passed("workers", f"none is live; time is kept by {counted(keepers, 'keeper')}")] if keepers else [NOBODY]


def unserved(ground: Ground) -> list[Finding]:
    """Every ready step has a live worker that can run it."""
    if ground.ledger is None or not ground.is_migrated:
        return []
    return of_queues(reads.workers.unserved(ground.ledger, ground.settings.worker_ttl))


def of_queues(rows: Sequence[UnservedRow]) -> list[Finding]:
    """The same, of what was found."""
    if not rows:
        return [passed("queues", "every ready step has a live worker")]
    return [finding for row in rows for finding in _of_task(row)]


def _of_task(row: UnservedRow) -> list[Finding]:
    """One for what nobody has, one for what everybody refuses."""
    since, found = f"since {row.since:%Y-%m-%d %H:%M:%S} UTC", []
    refused = row.refused
    if missing := row.ready - row.refused:
        found.append(
            failed(
                "queues",
                f"{counted(missing, 'ready step')} {since}, and no live worker has handler {row.task} on queue "
                f"{row.queue}",
                f"start a worker with this flow: `orchestrator worker --flows MODULE --queues {row.queue}`.",
            )
        )
    if refused:
        found.append(
            failed(
                "queues",
                f"{counted(refused, 'ready step')} {since} of versions that no live worker's handler {row.task} fits",
                "start a worker of code that fits; `orchestrator run explain ID` says what does not, and `orchestrator "
                "worker ls` who refuses.",
            )
        )
    return found


CHECKS = (workers, unserved)
