"""What the ledger forgets. Each call does one page; call again until it removes nothing."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from orchestrator.ledger import definitions, operations, requests, retention, rollups, webhooks
from orchestrator.ledger import notifications as ledger_notifications
from orchestrator.ledger.tx import Ledger

KEYS = 1000
RUNS = 500
TICKS = 1000
ROLLUPS = timedelta(days=90)
OPERATIONS = 2
STEPS = 5000
"""A page of runs ends with the one that brings it to this many steps: one large run is still one page."""


def keys(ledger: Ledger, page: int = KEYS) -> int:
    """Remove idempotency keys of starts and of requests that expired: what comes with them is a new one anyway."""
    removed = ledger.retry(lambda tx: retention.drop_keys(tx, page))
    return removed or ledger.retry(lambda tx: requests.drop(tx, page))


@dataclass(slots=True)
class Passed:
    """How far the runs were looked at; back at the `FIRST` one when all were."""

    begin: UUID = retention.FIRST

    @property
    def all(self) -> bool:
        return self.begin == retention.FIRST


def runs(ledger: Ledger, ttl: timedelta, page: int = RUNS, steps: int = STEPS, passed: Passed | None = None) -> int:
    """Remove runs that ended `ttl` ago or earlier, with their steps, outputs and events; never one that is open.

    A run whose idempotency key has not expired stays: the key promises its id. Of those there may be any number: some
    are passed by in each call, so ask on until `all` are.
    """
    passed = passed or Passed()
    removed, begin = ledger.retry(lambda tx: retention.drop_runs(tx, ttl, passed.begin, page, steps))
    if not removed:
        passed.begin = begin
    return removed


def deliveries(ledger: Ledger, ttl: timedelta, page: int = KEYS) -> int:
    """Remove what came by webhooks `ttl` ago, and nonces that expired: from then on the same delivery is a new one."""
    removed = ledger.retry(lambda tx: webhooks.drop_deliveries(tx, ttl, page))
    return removed or ledger.retry(lambda tx: webhooks.drop_nonces(tx, page))


def notifications(ledger: Ledger, ttl: timedelta, page: int = KEYS) -> int:
    """Give up what was not delivered to subscriptions in time; remove what is over and was made `ttl` ago, and what is
    left of subscriptions that were deleted."""
    buried = ledger.retry(lambda tx: ledger_notifications.bury(tx, page))
    return buried or ledger.retry(lambda tx: ledger_notifications.drop(tx, ttl, page))


def forgotten_flows(ledger: Ledger) -> int:
    """Remove the versions of flows that were deleted a day ago and have no runs any more, with the flows' events."""
    return ledger.retry(definitions.drop_forgotten)


def ticks(ledger: Ledger, ttl: timedelta, page: int = TICKS) -> int:
    """Remove ticks that were decided `ttl` ago and started nothing (those of a run go with it), and events of schedules
    and flows of the same age."""
    removed = ledger.retry(lambda tx: retention.drop_ticks(tx, ttl, page))
    removed = removed or ledger.retry(lambda tx: retention.drop_own_events(tx, ttl, page))
    return removed or ledger.retry(lambda tx: retention.drop_stray_events(tx, ttl, page))


def counts(ledger: Ledger, ttl: timedelta, page: int = TICKS) -> int:
    """Remove roll-ups of runs that ended `ttl` ago, and before `ROLLUPS`: they are small, and outlive the runs."""
    return ledger.retry(lambda tx: rollups.drop(tx, max(ttl, ROLLUPS), page))


def ended_operations(ledger: Ledger, ttl: timedelta) -> int:
    """Remove operations that ended `ttl` ago, with the outcomes of their runs: a few, since each may have 100,000."""
    return ledger.retry(lambda tx: operations.drop(tx, ttl, OPERATIONS))
