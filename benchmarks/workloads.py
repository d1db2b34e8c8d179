"""What is measured. Rounds are interleaved: every contender once, then every contender again."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import CHAIN, STARTS_AT_ONCE, Contender, Ours
from benchmarks.cpu import Cpu
from benchmarks.figures import Figure, number, percentile
from benchmarks.report import Result, Row

_REST_S = 0.6
"""After a round, so that what is written lazily is charged to the round that caused it."""
_FAN_BUDGET_S = 55.0
"""A contender that has spent so long on one size of a fan-out is not asked for another round of it."""
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
)


def chain(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """Chains of five, as many as there is capacity for: throughput, and who spends what."""
    counts = {}
    for one in contenders:
        one.chains(10)
        rough = _rate(one, 50)
        counts[one.name] = max(5, int(_rate(one, max(5, int(rough * sizes.chain_s / 4))) * sizes.chain_s))
    speed: dict[str, list[float]] = {}
    spent: dict[str, list[dict[str, float]]] = {}
    for turn in range(sizes.rounds):
        for one in contenders:
            count = counts[one.name]
            elapsed, used = _round(one, count)
            speed.setdefault(one.name, []).append(count / elapsed)
            spent.setdefault(one.name, []).append(used.ms_per(count * CHAIN))
            say(f"chain {turn + 1}/{sizes.rounds} {one.name}: {count} runs, {count / elapsed:.0f} runs/s")
    runs = {name: Figure.of(values) for name, values in speed.items()}
    steps = {name: Figure.of([value * CHAIN for value in values]) for name, values in speed.items()}
    rows = [Row("chain of 5", runs, "runs/s"), Row("chain of 5", steps, "steps/s"), *_cpu_rows(spent)]
    return Result("Chain of five, saturated", rows)


def _rate(one: Contender, count: int) -> float:
    began = time.perf_counter()
    one.chains(count)
    return count / (time.perf_counter() - began)


def _round(one: Contender, count: int) -> tuple[float, Cpu]:
    before, began = one.cpu(), time.perf_counter()
    one.chains(count)
    elapsed = time.perf_counter() - began
    time.sleep(_REST_S)
    return elapsed, one.cpu() - before


def _cpu_rows(spent: dict[str, list[dict[str, float]]]) -> list[Row]:
    def row(what: str, value: Callable[[dict[str, float]], float | None]) -> Row:
        found = {name: [value(each) for each in rounds] for name, rounds in spent.items()}
        kept = {name: [each for each in values if each is not None] for name, values in found.items()}
        return Row(what, {name: Figure.of(values) for name, values in kept.items() if values}, "ms per step")

    labels = {
        "worker": "worker, main process",
        "children": "pool children",
        "client": "client",
        "postgres": "PostgreSQL",
        "valkey": "Valkey",
    }
    parts = [row(f"CPU, {label}", lambda each, role=role: each.get(role)) for role, label in labels.items()]  # type: ignore[misc]
    return [row("CPU, all processes", lambda each: sum(each.values())), *parts]


def latency(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """One run at a time, nothing else going on."""
    halves: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    recorded: list[float] = []
    for turn in range(sizes.rounds):
        for one in contenders:
            one.chain()
            seen = [one.chain() * 1000 for _ in range(sizes.latencies)]
            halves.setdefault(one.name, []).append(percentile(seen, 0.5))
            tails.setdefault(one.name, []).append(percentile(seen, 0.95))
            say(f"latency {turn + 1}/{sizes.rounds} {one.name}: p50 {halves[one.name][-1]:.1f} ms")
            if isinstance(one, Ours):
                recorded += [one.recorded_chain() * 1000 for _ in range(sizes.latencies)]
    rows = [
        Row("p50, start to observed end", {name: Figure.of(values) for name, values in halves.items()}, "ms"),
        Row("p95, start to observed end", {name: Figure.of(values) for name, values in tails.items()}, "ms"),
    ]
    p50, p95 = number(percentile(recorded, 0.5)), number(percentile(recorded, 0.95))
    note = f"By the ledger's clock, from the accepted start to the recorded end: p50 {p50} ms, p95 {p95} ms."
    return Result("One chain of five at a time", rows, [note])


def fan(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """A fan-out and its join: the cost of a step must not depend on how many it has beside it."""
    rows, notes = [], []
    for size in sizes.fans:
        spent = dict.fromkeys([one.name for one in contenders], 0.0)
        per_step: dict[str, list[float]] = {}
        for turn in range(sizes.rounds):
            for one in contenders:
                if spent[one.name] > _FAN_BUDGET_S:
                    continue
                began = time.monotonic()
                try:
                    cost = _fan(one, size) * 1000 / size
                except TimeoutError:
                    notes.append(f"{one.name}: {size:,} steps and their join did not end in time once.")
                    one.restart()
                else:
                    per_step.setdefault(one.name, []).append(cost)
                    say(f"fan-out {size:,} {turn + 1}/{sizes.rounds} {one.name}: {cost:.2f} ms per step")
                spent[one.name] += time.monotonic() - began
                time.sleep(_REST_S / 2)
        figures = {name: Figure.of(values) for name, values in per_step.items()}
        rows.append(Row(f"fan-out of {size:,} and join", figures, "ms per step"))
    return Result("Fan-out and join", rows, notes)


def _fan(one: Contender, size: int) -> float:
    """Small ones are over too soon to be measured once."""
    return median(one.fan(size) for _ in range(5 if size < 100 else 1))


def starts(contenders: Sequence[Contender], sizes: Sizes, say: Say) -> Result:
    """What one client process can have accepted, while the worker stands still."""
    single: dict[str, list[float]] = {}
    many: dict[str, list[float]] = {}
    for turn in range(sizes.rounds):
        for one in contenders:
            one.pause()
            try:
                single.setdefault(one.name, []).append(_per_second(one.start_each, sizes.starts))
                many.setdefault(one.name, []).append(_per_second(one.start_many, sizes.starts_at_once))
            finally:
                one.go_on()
            say(
                f"starts {turn + 1}/{sizes.rounds} {one.name}: {single[one.name][-1]:.0f}/s, {many[one.name][-1]:.0f}/s"
            )
            time.sleep(_REST_S)
    rows = [
        Row("one at a time", {name: Figure.of(values) for name, values in single.items()}, "starts/s"),
        Row(f"{sizes.starts_at_once} in one call", {n: Figure.of(values) for n, values in many.items()}, "starts/s"),
    ]
    return Result("Starts of a chain of five by one client", rows)


def _per_second(start: Callable[[int], None], count: int) -> float:
    began = time.perf_counter()
    start(count)
    return count / (time.perf_counter() - began)
