"""Flows that the kit's tests play."""

import sqlite3
from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy import text

from orchestrator import Context, RetryAfter, each, flow, step


class Order(BaseModel):
    customer: str
    amounts: list[Decimal]


class BankDown(Exception):
    """The bank does not answer."""


@step(retries=3, backoff=["10s", "1m", "10m"])
def price(amount: Decimal) -> Decimal:
    return amount * 2


@step
def total(prices: list[Decimal]) -> Decimal:
    return sum(prices, Decimal(0))


@step(retries=2, backoff="1m..1h", never_retry=(sqlite3.Error,))
def charge(ctx: Context, customer: str, amount: Decimal) -> str:
    return f"{customer} paid {amount} as {ctx.attempt}"


@step
async def thank(receipt: str) -> str:
    return f"thank you: {receipt}"


@flow
def shop(order: Order) -> str:
    return thank(charge(order.customer, total(each(price, order.amounts))))


@step(queue_timeout="5m", timeout="2m")
def count(ctx: Context, n: int) -> int:
    return n + 1


@flow
def chain(n: int) -> int:
    for _ in range(5):
        n = count(n)
    return n


@step(timeout="10s")
def quick(n: int) -> int:
    return n


@flow
def quickly(n: int) -> int:
    return quick(n)


@step(transactional=True)
def note(ctx: Context, n: int) -> int:
    ctx.tx.execute(text("UPDATE sim_notes SET n = n + :n"), {"n": n})
    return n


@flow
def noting(n: int) -> int:
    return note(n)


@step(retries=1)
def later(n: int) -> int:
    raise RetryAfter("2h", "come back in two hours")


@flow(deadline="1h")
def hurried(n: int) -> int:
    return later(n)
