"""Ten thousand runs that wait for a signal: how long one client takes to deliver to some of them."""

import time
from typing import Final

from pydantic import SecretStr

from benchmarks import waiting_flows
from benchmarks.alone import Ground
from benchmarks.figures import number
from benchmarks.processes import BenchFailed
from benchmarks.report import Result
from benchmarks.workloads import Say, Sizes
from orchestrator import Client, RunHandle, Settings
from orchestrator.ledger import migrate

_BROKER: Final = 12
_BATCH: Final = 500
_DELIVERIES: Final = 1_000


def signals(ground: Ground, sizes: Sizes, say: Say) -> Result:
    """No worker runs: what is measured is the commit that a sender waits for, with the message that follows it."""
    url = ground.database("signals")
    migrate.upgrade(url)
    settings = Settings(database_url=SecretStr(url), broker_url=SecretStr(ground.broker(_BROKER)))
    with Client(settings) as client:
        parked: list[RunHandle[int]] = []
        for begin in range(0, sizes.waits, _BATCH):
            inputs = [{"order": f"o-{n}"} for n in range(begin, min(begin + _BATCH, sizes.waits))]
            parked += client.start_many(waiting_flows.paid, inputs)
        apart = max(1, len(parked) // _DELIVERIES)
        lags = sorted(_deliver(parked[n], f"o-{n}") for n in range(0, len(parked), apart))
    middle, high = lags[len(lags) // 2], lags[int(len(lags) * 0.99)]
    note = f"{len(lags):,} deliveries one by one: p50 {number(middle)} ms, **p99 {number(high)} ms**"
    say(f"signals: {note}")
    return Result(f"{len(parked):,} parked signals", notes=[note])


def _deliver(handle: RunHandle[int], key: str) -> float:
    """In milliseconds."""
    began = time.perf_counter()
    delivery = handle.signal("paid", {"amount": 5}, key=key, id="evt-1")
    took = time.perf_counter() - began
    if not delivery.delivered:
        raise BenchFailed(f"A signal was not delivered: {delivery}.")
    return took * 1000
