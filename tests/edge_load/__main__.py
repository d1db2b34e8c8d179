"""`python -m tests.edge_load --seed 7 --seconds 60`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import OrchestratorError
from orchestrator.servers.embedded import binaries
from tests.edge_load import report
from tests.edge_load.run import load


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edge_load", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="decides what clients ask for, and the faults")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults are done")
    parser.add_argument("--keep", type=Path, help="copy logs and journals there when something is wrong")
    options = parser.parse_args(arguments)
    try:
        binaries.postgres()
        binaries.valkey()
        outcome = load(options.seed, options.seconds, options.keep)
    except OrchestratorError as exc:
        parser.exit(2, f"{exc}\n")
    print(report.render(outcome))
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
