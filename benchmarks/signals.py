"""Ten thousand runs that wait for a signal, and one run of which a thousand items do: how long one client takes to
deliver to some of them."""

import random
import time
from collections.abc import Iterable
from typing import Any, Final

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
_ITEMS: Final = 1_000


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
        to_runs = [_deliver(parked[n], f"o-{n}") for n in range(0, len(parked), apart)]
        items = client.start(waiting_flows.bills, orders=[f"o-{n}" for n in range(_ITEMS)])
        to_items = [_deliver(items, f"o-{n}") for n in _mixed(_ITEMS)]
    notes = [
        f"{len(to_runs):,} deliveries to runs, one by one: {_lags(to_runs)}",
        f"{len(to_items):,} deliveries to the items of one run, in any order: {_lags(to_items)}",
    ]
    for note in notes:
        say(f"signals: {note}")
    return Result(f"{len(parked):,} parked signals", notes=notes)


def _mixed(count: int) -> list[int]:
    """The same order each time."""
    found = list(range(count))
    random.Random(1).shuffle(found)
    return found


def _lags(found: Iterable[float]) -> str:
    lags = sorted(found)
    return f"p50 {number(lags[len(lags) // 2])} ms, **p99 {number(lags[int(len(lags) * 0.99)])} ms**"


def _deliver(handle: RunHandle[Any], key: str) -> float:
    """In milliseconds."""
    began = time.perf_counter()
    delivery = handle.signal("paid", {"amount": 5}, key=key, id=f"evt-{key}")
    took = time.perf_counter() - began
    if not delivery.delivered:
        raise BenchFailed(f"A signal was not delivered: {delivery}.")
    return took * 1000
