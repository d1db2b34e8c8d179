"""How many connections to PostgreSQL the processes may have at the same time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.core.facts import KEEPER

LOOPS: Final = 22
"""Of a process with a keeper: one for each of its duties, and the transaction by which the leader is known."""
_SLOT: Final = 2
"""A thread that runs steps keeps one, and takes a second for a transaction."""
_BESIDE: Final = 2
"""Of a process that runs steps: the heartbeat's, and that of what steps log and print."""
_API_BESIDE: Final = 2
"""Of a process of the API: what has happened, and health."""


@dataclass(frozen=True, slots=True)
class Need:
    """Processes of one kind; `each` of them may have so many connections."""

    what: str
    count: int
    each: int

    @property
    def most(self) -> int:
        """All of them."""
        return self.count * self.each


def of_threads(threads: int) -> int:
    """Of a process with a keeper that runs so many steps at a time itself."""
    return LOOPS + _SLOT * threads


def of_worker(pool: str, concurrency: int) -> int:
    """Of a worker with all its processes, or a keeper alone."""
    if pool == KEEPER:
        return LOOPS
    if pool == "prefork":
        return LOOPS + concurrency * (_SLOT + _BESIDE)
    return of_threads(concurrency) + _BESIDE


@dataclass(frozen=True, slots=True)
class Others:
    """Processes that the ledger does not know: how many run."""

    apis: int = 1
    beats: int = 1
    exporters: int = 1
    clients: int = 0


def budget(workers: Iterable[tuple[str, str, int]], others: Others, pool_size: int, overflow: int) -> list[Need]:
    """`workers`: name, pool and concurrency of those that live."""
    each = pool_size + overflow
    found = [Need(f"{pool} {name}", 1, of_worker(pool, concurrency)) for name, pool, concurrency in workers]
    return [*found, *_others(others, min(each, _SLOT * pool_size) + _API_BESIDE, each)]


def _others(others: Others, api: int, client: int) -> Iterator[Need]:
    yield Need("API", others.apis, api)
    yield Need("beat", others.beats, 1)
    yield Need("exporter", others.exporters, 1)
    yield Need("client", others.clients, client)
