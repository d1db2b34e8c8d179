"""python -m benchmarks.peers [--quick] [--only PEER[,PEER…]] [--rounds N] [--output FILE]

Ours and bare Celery beside other systems, each in a virtual environment of its own below .orchestrator/peers. These are
made first, from the pins beside this file; what is measured after that downloads nothing.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import redis

from benchmarks.command import Parser, in_database, measure, names_of, servers
from benchmarks.contenders import Bare, Contender, Ours
from benchmarks.peers import measures
from benchmarks.peers.driven import Driven
from benchmarks.peers.install import MissingProgram, install, python_of
from benchmarks.peers.measures import QUICK, Sizes
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.peers.table import markdown
from benchmarks.processes import ROOT
from benchmarks.workloads import Say
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.valkey import EmbeddedValkey

ENVIRONMENTS: Final = ROOT / ".orchestrator" / "peers"
_OURS: Final = "orchestrator"
_BARE: Final = "bare Celery"
_MOST_ROUNDS: Final = 50
_BUSY: Final = 0.25
"""Of a process per core that was ready to run in the minute before."""


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when it was, 1 when something failed, 2 for wrong input, 130 for Ctrl-C."""
    parser = Parser("benchmarks.peers", "Measure beside DBOS, Prefect and others.", "bench-peers.md")
    parser.add_argument("--quick", action="store_true", help="one round of small numbers")
    parser.add_argument(
        "--only", type=_peers, default=tuple(PEERS.values()), metavar="PEERS", help=f"some of {', '.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="how often each is measured, three by itself")
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    if given.rounds is not None:
        sizes = replace(sizes, rounds=given.rounds)

    def work(say: Say) -> str:
        install(given.only, ENVIRONMENTS, say)
        return run(sizes, given.only, say)

    try:
        return measure(work, given.output)
    except MissingProgram as exc:
        parser.exit(2, f"benchmarks.peers: {exc}\n")


def _peers(given: str) -> tuple[Peer, ...]:
    return tuple(PEERS[name] for name in names_of(given, PEERS, "peer"))


def _rounds(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= _MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{given} is not a number of rounds from 1 to {_MOST_ROUNDS}")
    return int(given)


def run(sizes: Sizes, peers: Sequence[Peer], say: Say) -> str:
    """The whole measurement, on servers that live as long as it; the tables.

    Raises:
        BenchFailed: ours or bare Celery did not start, a run of ours did not succeed.
    """
    began = time.monotonic()
    busy = busy_note(os.getloadavg()[0], os.cpu_count() or 1)
    for note in busy:
        say(note)
    with servers(say) as (postgres, valkey, folder):
        makers = _makers(peers, postgres, valkey, folder)
        rows, notes = measures.rounds(makers, sizes, say, lambda: _clean(postgres, valkey))
    return markdown(rows, list(makers), peers, sizes, [*busy, *notes], time.monotonic() - began)


def busy_note(load: float, cores: int) -> list[str]:
    """A contender with more threads gets more of a busy machine, so its speeds do not compare."""
    if load < cores * _BUSY:
        return []
    return [
        f"The machine had other work: load average {load:.1f} on {cores} cores before the first round. Speeds and "
        "latencies of such a run do not compare; CPU per step does, roughly."
    ]


def _makers(
    peers: Sequence[Peer], postgres: EmbeddedPostgres, valkey: EmbeddedValkey, folder: Path
) -> dict[str, Callable[[], Contender]]:
    both = {"postgres": postgres.pid, "valkey": valkey.pid}
    makers: dict[str, Callable[[], Contender]] = {
        _OURS: lambda: Ours(postgres.url, valkey.url, both, folder),
        _BARE: lambda: Bare(_BARE, in_database(valkey.url, 1), True, valkey.pid, folder),
    }
    for peer in peers:
        makers[peer.title] = _driven(peer, postgres, folder)
    return makers


def _driven(peer: Peer, postgres: EmbeddedPostgres, folder: Path) -> Callable[[], Contender]:
    command = [str(python_of(peer, ENVIRONMENTS)), "-m", peer.module]
    env: dict[str, str] = {}
    pids: dict[str, int] = {}
    if peer.on_postgres:
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {peer.name}".encode())
        env, pids = {"PEER_DATABASE_URL": postgres.url_of(peer.name)}, {"postgres": postgres.pid}
    return lambda: Driven(peer.title, command, env, pids, folder)


def _clean(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    """What one contender left to be written is not the next one's to pay for."""
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CHECKPOINT")
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()


if __name__ == "__main__":
    sys.exit(main())
