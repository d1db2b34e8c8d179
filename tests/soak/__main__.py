"""`python -m tests.soak --seed 7 --minutes 3`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.errors import OrchestratorError
from orchestrator.servers.embedded import binaries
from tests.soak import report
from tests.soak.run import soak


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no seed. Fix: give a whole number from 0 on")
    return int(text)


def _minutes(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no length. Fix: give minutes above 0, at most {24 * 60}")
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def main(arguments: Sequence[str]) -> int:
    parser = _Parser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=_seed, required=True, help="decides flows, inputs and faults")
    parser.add_argument("--minutes", type=_minutes, default=3.0, help="how long faults are done")
    parser.add_argument("--report", type=Path, help="write the report there too")
    parser.add_argument("--keep", type=Path, help="copy the logs there when something is wrong")
    parser.add_argument(
        "--pooler",
        choices=("session", "transaction"),
        default="session",
        help="PgBouncer before every second worker, or in transaction mode before all that the product has",
    )
    options = parser.parse_args(arguments)
    if options.report is not None and not options.report.parent.is_dir():
        parser.error(f"there is no folder {options.report.parent}. Fix: make it, or write the report elsewhere")
    try:
        binaries.postgres()
        binaries.valkey()
        outcome = soak(options.seed, options.minutes, options.keep, pooler=options.pooler)
    except OrchestratorError as exc:
        parser.exit(2, f"{exc}\n")
    text = f"{report.render(outcome)}\n\n{report.nemesis_log(outcome.history)}\n"
    print(text)
    if options.report is not None:
        options.report.write_text(text)
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
