"""Runs that wait: what `benchmarks/waits.py` and `benchmarks/signals.py` measure. Their one step does nothing."""

from datetime import datetime

from pydantic import BaseModel

from benchmarks.flows import first
from orchestrator import after, block, each, flow, until, wait_for_signal


@flow(name="woken")
def woken(at: datetime) -> int:
    with after(until(at)):
        return first(1)


class Payment(BaseModel):
    amount: int


@flow(name="paid")
def paid(order: str) -> int:
    with after(wait_for_signal(Payment, name="paid", key=order)):
        return first(1)


@block
def bill(order: str) -> int:
    with after(wait_for_signal(Payment, name="paid", key=order)):
        return first(1)


@flow(name="bills")
def bills(orders: list[str]) -> list[int]:
    """Each item waits for its own."""
    return each(bill, orders, concurrency=1000)
