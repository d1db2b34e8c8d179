"""What is measured. Rounds are interleaved: every contender once, then every contender again."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, Protocol, TypeVar

from benchmarks.contenders import CHAIN, STARTS_AT_ONCE, Contender, Ours
from benchmarks.figures import Figure, number, percentile
from benchmarks.report import Result, Row

_REST_S = 0.6
"""After a round, so that what is written lazily is charged to the round that caused it."""
_FAN_BUDGET_S = 55.0
"""A contender that has spent so long on one size of a fan-out is not asked for another round of it."""
_ROLES = {
    "worker": "worker, main process",
    "children": "pool children",
    "client": "client",
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int = 3
    chain_s: float = 4.0
    """Each round of chains is made to last about so long."""
    latencies: int = 60
    fans: tuple[int, ...] = (10, 100, 1_000, 10_000)
    starts: int = 200
    starts_at_once: int = STARTS_AT_ONCE
    backlog: int = 50_000
    backlog_s: float = 50.0
    redispatch_after_s: float = 15.0
    sweep_s: float = 5.0
    history: int = 1_000_000
    """Finished runs in the ledger."""
    finishes: int = 16_000
    """Per client of pgbench."""
    single_runs: int = 100
    flushed_s: float = 11.0
    """A session of PostgreSQL that has become idle tells what it did within ten seconds."""
    memory_steps: int = 100_000
    schedules: int = 10_000
    schedules_s: float = 40.0
    waits: int = 10_000
    when_runs: int = 400
    items: int = 30_000
    """Steps, however many for each item."""
    item_counts: tuple[int, ...] = (2_000, 10_000, 30_000)
    """Of loops, one after the other."""
    call_counts: tuple[int, ...] = (500, 2_000, 10_000)
    triggers: int = 1_500
    """Starts over HTTP in a round."""
    reads: int = 100
    """Of a kind."""
    requests: int = 100_000
    """To one API process."""


QUICK = Sizes(
    chain_s=0.8,
    latencies=20,
    fans=(10, 100, 1_000),
    starts=50,
    starts_at_once=100,
    backlog=3_000,
    backlog_s=8.0,
    redispatch_after_s=2.0,
    sweep_s=0.5,
    history=50_000,
    finishes=4_000,
    single_runs=30,
    memory_steps=10_000,
    schedules=2_000,
    schedules_s=15.0,
    waits=1_000,
    when_runs=100,
    items=3_000,
    item_counts=(500, 1_000, 2_000),
    call_counts=(100, 500),
    triggers=300,
    reads=40,
    requests=5_000,
)
TINY = Sizes(
    rounds=1,
    chain_s=0.05,
    latencies=2,
    fans=(5,),
    starts=3,
    starts_at_once=3,
    backlog=50,
    backlog_s=0.5,
    redispatch_after_s=1.0,
    sweep_s=0.5,
    history=200,
    finishes=40,
    single_runs=3,
    flushed_s=0.1,
    memory_steps=100,
    schedules=20,
    schedules_s=2.5,
    waits=50,
    when_runs=5,
    items=30,
    item_counts=(10, 20),
    call_counts=(5, 10),
    triggers=20,
    reads=3,
    requests=200,
)


class Measured(Protocol):
    """Who is measured."""

    name: str

    def restart(self) -> None:
        """Drop what is under way."""


C = TypeVar("C", bound=Measured)


class Samples(Generic[C]):
    """What was measured, by measure and contender."""

    def __init__(self, label: str, contenders: Sequence[C], say: Say) -> None:
        self._label = label
        self._contenders = contenders
        self._say = say
        self._values: dict[str, dict[str, list[float]]] = {}
        self.notes: list[str] = []

    def rounds(self, count: int, measure: Callable[[C], dict[str, float]], budget_s: float = math.inf) -> None:
        """Measure everybody in turn, `count` times; whoever has spent `budget_s` is not asked again.

        A contender whose work does not end loses the round and starts anew, and a note says so.
        """
        spent = dict.fromkeys([one.name for one in self._contenders], 0.0)
        for turn, one in ((turn, one) for turn in range(1, count + 1) for one in self._contenders):
            if spent[one.name] > budget_s:
                continue
            began = time.monotonic()
            try:
                found = measure(one)
            except TimeoutError as exc:
                self.notes.append(f"{self._label}: {one.name} lost a round, because {exc}.")
                self._say(self.notes[-1])
                one.restart()
            else:
                self._add(one.name, found)
                figures = ", ".join(f"{what} {number(value)}" for what, value in found.items() if "CPU" not in what)
                self._say(f"{self._label} {turn}/{count} {one.name}: {figures}")
            spent[one.name] += time.monotonic() - began
            time.sleep(_REST_S / 2)

    def _add(self, name: str, found: dict[str, float]) -> None:
        for what, value in found.items():
            self._values.setdefault(what, {}).setdefault(name, []).append(value)

    def rows(self) -> list[Row]:
        return [Row(what, {n: Figure.of(v) for n, v in values.items()}) for what, values in self._values.items()]

    def result(self, title: str, *notes: str) -> Result:
        return Result(title, self.rows(), [*notes, *self.notes])


def chain(contenders: Sequence[Contender], sizes: Sizes, say: Say, title: str = "Chain of five, saturated") -> Result:
    """Chains of five, as many as there is capacity for: throughput, and what each process spends."""
    counts = {one.name: _calibrated(one, sizes.chain_s) for one in contenders}

    def measure(one: Contender) -> dict[str, float]:
        count = counts[one.name]
        before, began = one.cpu(), time.perf_counter()
        one.chains(count)
        speed = count / (time.perf_counter() - began)
        time.sleep(_REST_S)
        spent = (one.cpu() - before).ms_per(count * CHAIN)
        parts = {f"CPU, {_ROLES[role]}, ms per step": spent[role] for role in _ROLES if role in spent}
        total = {"CPU, all processes, ms per step": sum(spent.values())}
        return {"chain of 5, runs/s": speed, "chain of 5, steps/s": speed * CHAIN, **total, **parts}

    samples = Samples("chain", contenders, say)
    samples.rounds(sizes.rounds, measure)
    return samples.result(title)


def _calibrated(one: Contender, seconds: float) -> int:
    """How many chains last so long."""
    one.chains(10)  # connections, caches
    rough = max(5, int(_rate(one, 50) * seconds / 4))
    return max(5, int(_rate(one, rough) * seconds))


def _rate(one: Contender, count: int) -> float:
    began = time.perf_counter()
    one.chains(count)
    return count / (time.perf_counter() - began)


def latency(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """One run at a time, nothing else going on."""
    recorded: list[float] = []

    def measure(one: Contender) -> dict[str, float]:
        one.chain()
        seen = [one.chain() * 1000 for _ in range(sizes.latencies)]
        if isinstance(one, Ours):
            recorded.extend(one.recorded_chain() * 1000 for _ in range(sizes.latencies))
        return {
            "p50, start to observed end, ms": percentile(seen, 0.5),
            "p95, start to observed end, ms": percentile(seen, 0.95),
        }

    samples = Samples("latency", contenders, say)
    samples.rounds(sizes.rounds, measure)
    p50, p95 = number(percentile(recorded, 0.5)), number(percentile(recorded, 0.95))
    note = f"Ours by the ledger's clock, from the accepted start to the recorded end: p50 {p50} ms, p95 {p95} ms."
    return samples.result("One chain of five at a time", note)


def fan(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """A fan-out and its join: the cost of a step must not depend on how many it has beside it."""
    samples = Samples("fan-out", contenders, say)
    for size in sizes.fans:
        what = f"fan-out of {size:,} and join, ms per step"
        times = 5 if size < 100 else 1  # small ones are over too soon to be measured once

        def measure(one: Contender, size: int = size, what: str = what, times: int = times) -> dict[str, float]:
            return {what: median(one.fan(size) for _ in range(times)) * 1000 / size}

        samples.rounds(sizes.rounds, measure, _FAN_BUDGET_S)
    return samples.result("Fan-out and join")


def starts(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """What one client process can have accepted, while the worker stands still."""

    def measure(one: Contender) -> dict[str, float]:
        one.pause()
        try:
            single = _per_second(one.start_each, sizes.starts)
            many = _per_second(one.start_many, sizes.starts_at_once)
        finally:
            one.go_on()
        return {"one at a time, starts/s": single, f"{sizes.starts_at_once} in one call, starts/s": many}

    samples = Samples("starts", contenders, say)
    samples.rounds(sizes.rounds, measure)
    return samples.result("Starts of a chain of five by one client")


def _per_second(start: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    start(count)
    return count / (time.perf_counter() - began)
