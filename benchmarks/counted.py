"""What it costs that a worker's metrics can be asked for."""

import time
import urllib.request
from contextlib import ExitStack
from statistics import median
from typing import Final

from benchmarks import flows
from benchmarks.alone import Ground
from benchmarks.figures import number
from benchmarks.foreseen import spent
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator.servers.embedded.server import free_port

_OFF: Final = "without"
_ON: Final = "with metrics"


def metrics(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """Chains of five by two workers in turn, one with an address where it shows its metrics, scraped in each round."""
    port = free_port()
    ratios: dict[str, list[float]] = {"wall": [], "CPU": []}
    scrapes: list[tuple[float, int]] = []
    with ExitStack() as stack:
        workers = {
            _OFF: stack.enter_context(ground.ours(ground.database("plain"), 13, "plain")),
            _ON: stack.enter_context(
                ground.ours(ground.database("counted"), 14, "counted", health_address=f"127.0.0.1:{port}")
            ),
        }
        for ours in workers.values():
            spent(ours, flows.chain, 100)
        for turn in range(max(sizes.rounds, 6)):
            in_turn = list(workers.items()) if turn % 2 == 0 else list(workers.items())[::-1]
            found = {name: spent(ours, flows.chain, sizes.when_runs) for name, ours in in_turn}
            scrapes.append(_scrape(port))
            for name, values in ratios.items():
                values.append(found[_ON][name] / found[_OFF][name])
            say(
                f"metrics {turn + 1}: {number(found[_OFF]['CPU'])} ms of CPU a step, with metrics "
                f"{number(found[_ON]['CPU'])}: {ratios['CPU'][-1]:.3f}; wall {ratios['wall'][-1]:.3f}"
            )
    notes = [
        f"with metrics to without, {name}: **{median(values):.3f} times** ({min(values):.3f} to {max(values):.3f})"
        for name, values in ratios.items()
    ]
    took_ms, size = median(one for one, _ in scrapes) * 1000, scrapes[-1][1]
    notes.append(f"a scrape: {number(took_ms)} ms, {size:,} bytes")
    return Result(f"Metrics of a worker, {sizes.when_runs:,} chains a round", notes=notes)


def _scrape(port: int) -> tuple[float, int]:
    """Seconds, and bytes."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        size = len(answer.read())
    return time.perf_counter() - began, size
