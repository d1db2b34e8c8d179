"""What is measured, and in which order: a round is one turn of each contender, and only one of them lives at a time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from benchmarks.contenders import CHAIN, Contender
from benchmarks.figures import percentile
from benchmarks.peers.driven import DriverFailed
from benchmarks.report import Row
from benchmarks.window import OPEN
from benchmarks.workloads import Samples, Say

RUNS: Final = "runs/s"
STEPS: Final = "steps/s"
PLAIN: Final = "runs/s, one by one, 64 open"
CPU: Final = "CPU, ms per step"
P50: Final = "p50, ms"
P95: Final = "p95, ms"
ONE_BY_ONE: Final = "starts/s, one by one"
AT_ONCE: Final = "starts/s, at once"
_REST_S: Final = 0.6
_QUIET: Final = 0.2
"""Of one core: what a contender may use that has nothing to do."""
_SETTLE_S: Final = 10.0
_WARM: Final = 8
_LEAST: Final = 5
_PAGE: Final = 10


def fan_name(size: int) -> str:
    return f"fan-out of {size:,}, ms per step"


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int = 3
    chain_s: float = 4.0
    """Saturated chains are made to last about so long."""
    latencies: int = 40
    latency_s: float = 4.0
    """A slow contender is asked for fewer, at least five."""
    fans: tuple[int, ...] = (10, 100, 1_000)
    fan_s: float = 1.5
    """A fan-out is repeated up to five times while it has taken less."""
    starts: int = 100
    starts_at_once: int = 200
    start_s: float = 3.0
    """Who needs longer is asked for fewer."""


QUICK: Final = Sizes(
    rounds=1, chain_s=0.8, latencies=10, latency_s=1.5, fan_s=0.3, starts=20, starts_at_once=50, start_s=1.0
)


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def chains(sizes: Sizes, one: Contender) -> dict[str, float]:
    """As many chains of five as there is capacity for."""
    count = _calibrated(one, sizes.chain_s)
    before = one.cpu()
    speed = count / _seconds(partial(one.chains, count))
    settle(one)
    spent = (one.cpu() - before).total * 1000 / (count * CHAIN)
    return {RUNS: speed, STEPS: speed * CHAIN, CPU: spent}


def plain(sizes: Sizes, one: Contender) -> dict[str, float]:
    """Chains that one program starts one by one and waits for, 64 open at a time."""
    one.plain(OPEN)
    took = _seconds(partial(one.plain, OPEN))
    count = max(OPEN, int(OPEN * sizes.chain_s / 2 / took))
    return {PLAIN: count / _seconds(partial(one.plain, count))}


def settle(one: Contender) -> None:
    """Until what is done lazily is done, or ten seconds have passed, so that it is charged to what caused it."""
    deadline = time.monotonic() + _SETTLE_S
    before = one.cpu().total
    while time.monotonic() < deadline:
        time.sleep(_REST_S)
        if (after := one.cpu().total) - before < _QUIET * _REST_S:
            return
        before = after


def _calibrated(one: Contender, seconds: float) -> int:
    """How many chains last so long; on the way connections and caches get warm."""
    one.chains(_WARM)
    count = _WARM
    while (took := _seconds(partial(one.chains, count))) < seconds / 4:
        count *= 4
    return max(_WARM, int(count * seconds / took))


def latency(sizes: Sizes, one: Contender) -> dict[str, float]:
    """One chain at a time, nothing else going on."""
    one.chain()
    seen = _repeated(one.chain, _LEAST, sizes.latencies, sizes.latency_s)
    return {P50: percentile(seen, 0.5) * 1000, P95: percentile(seen, 0.95) * 1000}


def _repeated(what: Callable[[], float], least: int, most: int, seconds: float) -> list[float]:
    took: list[float] = []
    while len(took) < least or (len(took) < most and sum(took) < seconds):
        took.append(what())
    return took


def fan(sizes: Sizes, one: Contender) -> dict[str, float]:
    """A fan-out and its join."""
    found: dict[str, float] = {}
    for size in sizes.fans:
        took = _repeated(partial(one.fan, size), 1, 5, sizes.fan_s)
        found[fan_name(size)] = median(took) * 1000 / size
        settle(one)
    return found


def starts(sizes: Sizes, one: Contender) -> dict[str, float]:
    """What one client process can have accepted while nobody works on it."""
    one.pause()
    try:
        single = _starts_per_second(one, sizes)
        count = max(_PAGE, min(sizes.starts_at_once, int(single * sizes.start_s)))
        many = count / _seconds(partial(one.start_many, count))
    finally:
        one.go_on()
    return {ONE_BY_ONE: single, AT_ONCE: many}


def _starts_per_second(one: Contender, sizes: Sizes) -> float:
    done, spent = 0, 0.0
    while done == 0 or (done < sizes.starts and spent < sizes.start_s):
        spent += _seconds(partial(one.start_each, _PAGE))
        done += _PAGE
    return done / spent


WORKLOADS: Final[Mapping[str, Callable[[Sizes, Contender], dict[str, float]]]] = {
    "chain": chains,
    "plain": plain,
    "latency": latency,
    "fan-out": fan,
    "starts": starts,
}


def rounds(
    makers: Mapping[str, Callable[[], Contender]], sizes: Sizes, say: Say, between: Callable[[], object] = lambda: None
) -> tuple[list[Row], list[str]]:
    """Every contender's figures, and what is to be said about them.

    Each turn starts the contender, measures all of it and stops it, so nobody pays for another's polling.

    Raises:
        BenchFailed: ours or bare Celery did not start; a peer that does not loses that round only.
    """
    here: list[Contender] = []
    samples = {label: Samples(label, here, say) for label in WORKLOADS}
    notes: list[str] = []
    for number in range(1, sizes.rounds + 1):
        for name, make in makers.items():
            between()
            say(f"round {number}/{sizes.rounds}: {name}")
            try:
                _turn(make, here, samples, sizes)
            except DriverFailed as exc:
                say(f"{name} loses this round: {exc}")
                notes.append(f"{name} has no round {number}: {' … '.join(_ends(str(exc)))}")
    found = [row for one in samples.values() for row in one.rows()]
    return found, notes + [note for one in samples.values() for note in one.notes]


def _ends(text: str) -> list[str]:
    """The first line and the last, which of a log is the reason."""
    lines = text.splitlines()
    return lines if len(lines) < 2 else [lines[0], lines[-1].strip()]


def _turn(make: Callable[[], Contender], here: list[Contender], samples: Mapping[str, Samples], sizes: Sizes) -> None:
    one = make()
    here[:] = [one]
    try:
        for label, measure in WORKLOADS.items():
            samples[label].rounds(1, partial(measure, sizes))
    finally:
        one.close()
