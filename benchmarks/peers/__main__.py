"""python -m benchmarks.peers [--quick] [--only PEER[,PEER…]] [--rounds N] [--output FILE]

Ours and bare Celery beside other systems, each in a virtual environment of its own below .orchestrator/peers. These are
made first, from the pins beside this file; what is measured after that downloads nothing.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from benchmarks.contenders import Bare, Contender, Ours
from benchmarks.peers import measures
from benchmarks.peers.driven import Driven
from benchmarks.peers.install import MissingProgram, install, python_of
from benchmarks.peers.measures import QUICK, Sizes
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.peers.table import markdown
from benchmarks.processes import ROOT, BenchFailed
from benchmarks.workloads import Say
from orchestrator.embedded.postgres import EmbeddedPostgres
from orchestrator.embedded.valkey import EmbeddedValkey
from orchestrator.errors import OrchestratorError

ENVIRONMENTS: Final = ROOT / ".orchestrator" / "peers"
_OURS: Final = "orchestrator"
_BARE: Final = "bare Celery"
_MOST_ROUNDS: Final = 50
_BUSY: Final = 0.25
"""Of a process per core that was ready to run in the minute before."""


class _OneLine(argparse.ArgumentParser):
    """A wrong argument is one line, not a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks.peers: {message}. Fix: see python -m benchmarks.peers --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when it was, 1 when something failed, 2 for wrong input, 130 for Ctrl-C."""
    parser = _OneLine(prog="python -m benchmarks.peers", description="Measure beside DBOS, Prefect and others.")
    parser.add_argument("--quick", action="store_true", help="one round of small numbers")
    parser.add_argument(
        "--only", type=_peers, default=tuple(PEERS.values()), metavar="PEERS", help=f"some of {', '.join(PEERS)}"
    )
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="how often each is measured, three by itself")
    parser.add_argument(
        "--output", type=_file, default=ROOT / ".orchestrator" / "bench-peers.md", help="where the tables are kept"
    )
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    if given.rounds is not None:
        sizes = replace(sizes, rounds=given.rounds)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        install(given.only, ENVIRONMENTS, _say)
        text = run(sizes, given.only, _say)
    except MissingProgram as exc:
        parser.exit(2, f"benchmarks.peers: {exc}\n")
    except (BenchFailed, OrchestratorError) as exc:
        print(f"The benchmark failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(f"\n{text}\nKept in {given.output}")
    return 0


def _peers(given: str) -> tuple[Peer, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"there is no peer {name!r}; there are {', '.join(PEERS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"no peer is named; there are {', '.join(PEERS)}")
    return tuple(PEERS[name] for name in names)


def _rounds(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= _MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{given} is no number of rounds from 1 to {_MOST_ROUNDS}")
    return int(given)


def _file(given: str) -> Path:
    path = Path(given)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{given} is no file in a folder that exists")
    return path


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


_began = time.monotonic()


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _began:4.0f} s] {text}", file=sys.stderr, flush=True)


def run(sizes: Sizes, peers: Sequence[Peer], say: Say) -> str:
    """The whole measurement, on servers that live as long as it; the tables.

    Raises:
        BenchFailed: ours or bare Celery did not start, a run of ours did not succeed.
    """
    began = time.monotonic()
    busy = busy_note(os.getloadavg()[0], os.cpu_count() or 1)
    for note in busy:
        say(note)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
        for server in (postgres, valkey):
            say(f"starting {server.title}")
            stack.callback(server.stop, immediate=True)
            server.start()
        makers = _makers(peers, postgres, valkey, folder)
        rows, notes = measures.rounds(makers, sizes, say, lambda: _clean(postgres, valkey))
    return markdown(rows, list(makers), peers, sizes, [*busy, *notes], time.monotonic() - began)


def busy_note(load: float, cores: int) -> list[str]:
    """Who has more threads gets more of a busy machine, so its speeds do not compare."""
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
    bare_url = urlunsplit(urlsplit(valkey.url)._replace(path="/1"))
    makers: dict[str, Callable[[], Contender]] = {
        _OURS: lambda: Ours(postgres.url, valkey.url, both, folder),
        _BARE: lambda: Bare(_BARE, bare_url, True, valkey.pid, folder),
    }
    for peer in peers:
        makers[peer.title] = _driven(peer, postgres, folder)
    return makers


def _driven(peer: Peer, postgres: EmbeddedPostgres, folder: Path) -> Callable[[], Contender]:
    command = [str(python_of(peer, ENVIRONMENTS)), "-m", peer.module]
    env: dict[str, str] = {}
    servers: dict[str, int] = {}
    if peer.on_postgres:
        with psycopg.connect(postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {peer.name}".encode())
        env, servers = {"PEER_DATABASE_URL": postgres.url_of(peer.name)}, {"postgres": postgres.pid}
    return lambda: Driven(peer.title, command, env, servers, folder)


def _clean(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    """What one contender left to be written is not the next one's to pay for."""
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CHECKPOINT")
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()


if __name__ == "__main__":
    sys.exit(main())
