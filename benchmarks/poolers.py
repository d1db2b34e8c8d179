"""Claim and finish through PgBouncer, beside a direct connection, with and without prepared statements."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from statistics import quantiles
from typing import Final

from benchmarks.alone import Ground
from benchmarks.figures import Figure
from benchmarks.processes import BenchFailed
from benchmarks.report import Result, Row
from benchmarks.workloads import Say, Sizes
from orchestrator.core.facts import Claimant, StartRequest, Success
from orchestrator.core.manifest import Manifest
from orchestrator.core.reach import PLAIN, Pooler, Reach
from orchestrator.engine.flows import register
from orchestrator.engine.runs import start_run
from orchestrator.engine.steps import claim_step, finish_step
from orchestrator.ledger import migrate
from orchestrator.ledger.tx import Ledger

_DIRECT: Final = "direct"
_UNPREPARED: Final = ", nothing prepared"
_STEP: Final = {"type": "bench"}
_LEASE: Final = timedelta(minutes=5)
_WARM: Final = 20


def poolers(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """One process, one run of one step after the other, the ways in turn."""
    from tests.support import bouncer  # beside the tests, which run through the same files

    if bouncer.installed() is None:
        raise BenchFailed("PgBouncer is not installed. Fix: apt-get install pgbouncer, or leave `poolers` out.")
    url = ground.database("poolers")
    migrate.upgrade(url)
    bouncer.equip(url)
    with ExitStack() as stack:
        through = {mode: stack.enter_context(bouncer.bouncer(url, ground.folder, mode.value)) for mode in _MODES}
        ledgers = dict(_ledgers(url, through))
        for ledger in ledgers.values():
            stack.callback(ledger.close)
        register.register(ledgers[_DIRECT], Manifest.model_validate({"name": "bench", "steps": {"a": _STEP}}))
        rounds = [_round(ledgers, sizes.single_runs) for _ in range(sizes.rounds)]
    say(f"poolers: {', '.join(f'{name} {ms:.2f} ms' for name, ms in rounds[-1].items())}")
    figures = {name: Figure.of([one[name] for one in rounds]) for name in ledgers}
    ratios = [f"{name}: {figures[name].middle / figures[_DIRECT].middle:.2f} of direct" for name in ledgers]
    return Result("Claim and finish through a pooler", [Row("ms, median", figures)], ratios, names=tuple(ledgers))


_MODES: Final = (Pooler.SESSION, Pooler.TRANSACTION)


def _ledgers(url: str, through: dict[Pooler, str]) -> Iterator[tuple[str, Ledger]]:
    yield _DIRECT, Ledger.connect(url)
    yield _DIRECT + _UNPREPARED, _unprepared(Ledger.connect(url))
    for mode, there in through.items():
        yield mode.value, Ledger.connect(there, reach=Reach(mode, PLAIN.role_limit))
    yield "session" + _UNPREPARED, _unprepared(Ledger.connect(through[Pooler.SESSION], reach=Reach(Pooler.SESSION)))


def _unprepared(ledger: Ledger) -> Ledger:
    ledger._options["prepare_threshold"] = None  # no setting: only transaction mode needs it
    return ledger


def _round(ledgers: dict[str, Ledger], count: int) -> dict[str, float]:
    took: dict[str, list[float]] = {name: [] for name in ledgers}
    names = list(ledgers)
    for turn in range(count + _WARM):
        turned = names[turn % len(names) :] + names[: turn % len(names)]
        for name in turned:
            took[name].append(_claim_and_finish(ledgers[name]))
    return {name: 1000 * quantiles(all_of[_WARM:], n=2)[0] for name, all_of in took.items()}


def _claim_and_finish(ledger: Ledger) -> float:
    """Seconds."""
    (started,) = start_run.start(ledger, [StartRequest("bench", "{}")])
    began = time.perf_counter()
    lease = claim_step.claim(ledger, started.run_id, "a", 1, Claimant("bench", _LEASE))
    if lease is None:
        raise BenchFailed(f"Run {started.run_id} could not be claimed.")
    finish_step.finish(ledger, lease, Success("1"))
    return time.perf_counter() - began
