"""What `orchestrator db connections` says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from orchestrator.cli.render import note, table
from orchestrator.client import Client
from orchestrator.core.connections import Need, Others, budget
from orchestrator.core.reach import Pooler
from orchestrator.ledger import reads
from orchestrator.ledger.reads.connections import Sessions

_HIGH: Final = 0.9
_FEWER: Final = "fewer slots, smaller pools (ORCHESTRATOR_DATABASE_POOL_SIZE), or a larger max_connections"


@dataclass(frozen=True, slots=True)
class Budget:
    """`slots`: steps that all live workers run at the same time."""

    needs: Sequence[Need]
    slots: int
    pooler: Pooler
    server: Sessions

    @property
    def most(self) -> int:
        """Connections of all processes; with a pooler, to it."""
        return sum(need.most for need in self.needs)

    @property
    def sessions(self) -> int:
        """What PostgreSQL has to have for them. In transaction mode: for a transactional step in each slot, and for the
        leader of the keepers; all other transactions are short."""
        return self.slots + 1 if self.pooler is Pooler.TRANSACTION else self.most


def find(client: Client, others: Others) -> Budget:
    """Of the processes that live, and the others."""
    settings = client.settings
    live = [one for one in client.call(reads.workers.every, settings.worker_ttl) if one.live]
    needs = budget(
        [(one.id, one.pool, one.concurrency) for one in live],
        others,
        settings.database_pool_size,
        settings.database_max_overflow,
    )
    server = client.call(reads.connections.used)
    return Budget(needs, sum(one.concurrency for one in live), settings.reach().pooler, server)


def plain(found: Budget) -> Mapping[str, Any]:
    """For JSON."""
    return {
        "processes": [{**asdict(need), "most": need.most} for need in found.needs],
        "most": found.most,
        "pooler": found.pooler.value,
        "sessions": found.sessions,
        "server": asdict(found.server),
    }


def show(found: Budget) -> None:
    """For people."""
    rows: list[tuple[object, ...]] = [(one.what, one.count, one.each, one.most) for one in found.needs if one.count]
    table(["process", "how many", "each", "at most"], [*rows, ("all", "", "", found.most)])
    if found.pooler is not Pooler.NONE:
        print(f"To the pooler ({found.pooler}): {found.most}, which `max_client_conn` must hold.")
    server = found.server
    share = found.sessions / max(1, server.allowed)
    print(
        f"To PostgreSQL: {found.sessions}, {share:.0%} of the {server.allowed} that it allows (max_connections "
        f"{server.limit}, {server.reserved} reserved)."
    )
    print(f"Now: {server.open} are open, {server.here} of them of this database, {server.busy} of these busy.")
    if share > _HIGH:
        way = "" if found.pooler is Pooler.TRANSACTION else ", or a pooler in transaction mode"
        note(f"That is too close. Fix: {_FEWER}{way}.")
