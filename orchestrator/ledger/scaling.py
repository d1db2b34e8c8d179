"""What a group of workers has to do, as the ledger has it."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Row

from orchestrator.core.opened import opened
from orchestrator.core.plan import Plan
from orchestrator.core.scaling import Group, Load
from orchestrator.errors import ManifestUnreadable
from orchestrator.ledger.rows import run
from orchestrator.ledger.tx import Ledger

MOST: Final = 100_000
"""Ready steps are counted to this many: more would change the number of workers, and take long to count."""
SOON: Final = 10_000
SAMPLE: Final = 1000
"""Attempts of the newest runs that say how long a step takes."""


def load(ledger: Ledger, group: Group) -> Load:
    """See `read`."""
    with ledger.auto() as tx:
        return read(ledger, tx, group)


def read(ledger: Ledger, tx: Connection, group: Group) -> Load:
    """Two statements, whose cost has a bound, and from time to time the manifest of a version that was not read yet."""
    now = run(tx, "scaling_load", queues=list(group.queues), delay=group.startup, most=MOST, window=SAMPLE).one()
    soon = run(tx, "scaling_soon", delay=group.startup, most=SOON).all()
    due = now.due + sum(row.n * _opened_by(ledger.plan, tx, row, group) for row in soon)
    return Load(now.running, now.ready, due, now.mean_s, all_counted=now.ready < MOST)


def _opened_by(plan_of: Callable[[str, Connection], Plan], tx: Connection, row: Row[Any], group: Group) -> int:
    """How many steps of the group the end of this one opens."""
    try:
        queues = _opened(plan_of(row.manifest_hash, tx), row.step_key)
    except ManifestUnreadable:  # a newer release's: better a worker too many than one that comes too late
        return 1
    return sum(queues[queue] for queue in group.queues)


@lru_cache(maxsize=4096)
def _opened(plan: Plan, step_key: str | None) -> Counter[str]:
    return opened(plan, step_key)
