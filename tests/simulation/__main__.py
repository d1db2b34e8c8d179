"""`python -m tests.simulation --seed 7 --steps 300`: one history per seed, any number of seeds."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.errors import OrchestratorError
from orchestrator.ledger import migrate
from orchestrator.servers.embedded import binaries
from tests.simulation import worlds
from tests.simulation.arena import arena
from tests.simulation.play import play
from tests.support import databases
from tests.support.servers import postgres


def _number(what: str, least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= 10**9:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}. Fix: give a whole number from {least} on")
        return int(text)

    return parse


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def main(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=_number("seed", 0), required=True, help="decides everything")
    parser.add_argument("--steps", type=_number("number of steps", 1), default=300, help="decisions of the scheduler")
    parser.add_argument("--histories", type=_number("number of histories", 1), default=1, help="seeds, from this on")
    parser.add_argument("--world", choices=worlds.KINDS, help="what its flows have; without it, the seed decides")
    parser.add_argument("--trace", action="store_true", help="print all that was done")
    options = parser.parse_args(arguments)
    try:
        binaries.postgres()
    except OrchestratorError as exc:
        parser.exit(2, f"{exc}\n")
    wrong = commits = 0
    with (
        tempfile.TemporaryDirectory(prefix="flow-", ignore_cleanup_errors=True) as folder,
        postgres(Path(folder) / "postgres") as server,
        databases.created(server) as template,
    ):
        migrate.upgrade(server.url_of(template))
        with arena(server, template) as made:
            began = time.monotonic()
            for seed in range(options.seed, options.seed + options.histories):
                kind = options.world or worlds.kind_of(seed)
                played = play(made, seed, options.steps, worlds.flows_of(kind, seed))
                commits += played.commits
                wrong += bool(played.wrong)
                if options.trace:
                    print("\n".join(played.trace))
                if played.wrong:
                    print(f"world of {kind}: {played}", flush=True)
            took = time.monotonic() - began
    print(
        f"seeds {options.seed} to {options.seed + options.histories - 1}, {options.steps} steps each: "
        f"{options.histories} histories, {commits} commits, {took:.1f} s, {options.histories / took:.2f} histories/s, "
        f"{wrong} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
