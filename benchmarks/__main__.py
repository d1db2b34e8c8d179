"""python -m benchmarks [--quick] [--only NAME[,NAME…]] [--output FILE]

Ours beside bare Celery, on servers of its own in a temporary folder. Prints a Markdown table and keeps it in FILE
(default .orchestrator/bench.md).
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import (
    alone,
    counted,
    edge,
    finish,
    foreseen,
    items,
    kit,
    payloads,
    poolers,
    schedules,
    signals,
    spans,
    stream,
    waits,
    workloads,
)
from benchmarks.alone import Ground
from benchmarks.backlog import backlog
from benchmarks.command import Parser, in_database, measure, names_of, servers
from benchmarks.contenders import Bare, Contender, Ours
from benchmarks.plain import plain
from benchmarks.report import Result, markdown
from benchmarks.workloads import QUICK, Say, Sizes
from orchestrator.servers.embedded.postgres import EmbeddedPostgres
from orchestrator.servers.embedded.valkey import EmbeddedValkey

COMPARED: Final[dict[str, Callable[[Sequence[Contender], Sizes, Say], Result]]] = {
    "chain": workloads.chain,
    "latency": workloads.latency,
    "fan": workloads.fan,
    "starts": workloads.starts,
}
ALONE: Final[dict[str, Callable[[Ground, Sizes, Say], Result]]] = {
    "history": alone.history,
    "finish": finish.finish,
    "scale": alone.scale,
    "costs": alone.costs,
    "memory": alone.memory,
    "schedules": schedules.schedules,
    "kit": kit.kit,
    "waits": waits.waits,
    "signals": signals.signals,
    "stream": stream.stream,
    "items": items.items,
    "item-memory": items.item_memory,
    "calls": items.calls,
    "when": foreseen.when,
    "metrics": counted.metrics,
    "spans": spans.spans,
    "payloads": payloads.payloads,
    "poolers": poolers.poolers,
    "triggers": edge.triggers,
    "lists": edge.lists,
    "waiters": edge.waiters,
    "api-memory": edge.api_memory,
}
USUAL: Final = (*COMPARED, "plain", "backlog")
NAMES: Final = (*USUAL, *ALONE)


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0 when everything was, 1 when something failed, 2 for a wrong argument, 130 for Ctrl-C."""
    parser = Parser("benchmarks", "Measure throughput and latency beside bare Celery.", "bench.md")
    parser.add_argument("--quick", action="store_true", help="under two minutes, with smaller numbers")
    parser.add_argument("--only", type=_names, default=USUAL, metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    given = parser.parse_args(arguments)
    return measure(lambda say: run(QUICK if given.quick else Sizes(), given.only, say), given.output)


def _names(given: str) -> tuple[str, ...]:
    return names_of(given, NAMES, "benchmark")


def run(sizes: Sizes, names: Sequence[str], say: Say) -> str:
    """The whole measurement, on servers that live as long as it; the table.

    Raises:
        BenchFailed: a process did not start, a run did not succeed.
    """
    began = time.monotonic()
    with servers(say) as (postgres, valkey, folder):
        results = _compared(sizes, names, postgres, valkey, folder, say)
        if "plain" in names:
            results.append(plain(in_database(valkey.url, 9), valkey.pid, folder, sizes, say))
        if "backlog" in names:
            results.append(backlog(postgres.url, valkey.url, folder, sizes, say))
        ground = Ground(postgres, valkey, folder)
        results += [ALONE[name](ground, sizes, say) for name in ALONE if name in names]
    return markdown(results, _CONTENDERS, time.monotonic() - began)


_CONTENDERS: Final = ("orchestrator", "bare Celery", "bare Celery, no ack emulation")


def _compared(
    sizes: Sizes,
    names: Sequence[str],
    postgres: EmbeddedPostgres,
    valkey: EmbeddedValkey,
    folder: Path,
    say: Say,
) -> list[Result]:
    wanted = [COMPARED[name] for name in COMPARED if name in names]
    if not wanted:
        return []
    _, bare, bold = _CONTENDERS
    with ExitStack() as stack:
        contenders: list[Contender] = []

        def join(one: Contender) -> None:
            stack.callback(one.close)
            contenders.append(one)

        say("starting the workers")
        join(Ours(postgres.url, valkey.url, {"postgres": postgres.pid, "valkey": valkey.pid}, folder))
        join(Bare(bare, in_database(valkey.url, 1), True, valkey.pid, folder))
        join(Bare(bold, in_database(valkey.url, 2), False, valkey.pid, folder))
        return [workload(contenders, sizes, say) for workload in wanted]


if __name__ == "__main__":
    sys.exit(main())
