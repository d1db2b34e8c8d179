"""Flows for the worker tests. Every handler writes start and end lines to the effects log."""

import asyncio
import os
import time
from datetime import timedelta

from sqlalchemy import text

from orchestrator import Context, each, flow, step


def effect(kind: str, ctx: Context, *more: object) -> None:
    """One line, written whole: `kind step_key attempt pid …`."""
    line = " ".join(map(str, (kind, ctx.run_id, ctx.step_key, ctx.attempt, os.getpid(), *more))) + "\n"
    handle = os.open(os.environ["TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@step
def add(ctx: Context, n: int, by: int = 1) -> int:
    effect("start", ctx)
    return n + by


@step
def double(ctx: Context, n: int) -> int:
    effect("start", ctx)
    return n * 2


@flow(name="chain")
def chain(n: int) -> int:
    return double(double(add(double(add(n)))))


@step
def gated(ctx: Context, gate: str) -> None:
    """Until the file is there, at most a minute."""
    effect("start", ctx)
    ends = time.monotonic() + 60
    while not os.path.exists(gate) and time.monotonic() < ends:
        time.sleep(0.02)
    effect("end", ctx)


@flow(name="gated")
def gated_flow(gate: str) -> None:
    return gated(gate)


@step
async def nap(ctx: Context, n: int, seconds: float) -> int:
    effect("start", ctx)
    await asyncio.sleep(seconds)
    effect("end", ctx)
    return n


@flow(name="naps")
def naps(count: list[int], seconds: float) -> list[int]:
    return each(nap, count, seconds=seconds)


@step
async def meet(ctx: Context, guest: int, count: int) -> int:
    """Until `count` have come."""
    effect("start", ctx)
    while _lines() < count:
        await asyncio.sleep(0.02)
    return guest


def _lines() -> int:
    with open(os.environ["TEST_EFFECTS"]) as log:
        return len(log.readlines())


@flow(name="meeting")
def meeting(guests: list[int], count: int) -> list[int]:
    return each(meet, guests, count=count)


@step(retries=3, backoff=[timedelta(milliseconds=100)])
def flaky(ctx: Context, fail_times: int) -> int:
    effect("start", ctx)
    if ctx.attempt <= fail_times:
        raise ConnectionError("not yet")
    return ctx.attempt


@flow(name="flaky")
def flaky_flow(fail_times: int) -> int:
    return flaky(fail_times)


@step(retries=3, never_retry=(ValueError,))
def stubborn(ctx: Context) -> int:
    effect("start", ctx)
    raise ValueError("never again")


@flow(name="stubborn")
def stubborn_flow() -> int:
    return stubborn()


@step(timeout="700ms")
def hang(ctx: Context, seconds: float) -> str:
    effect("start", ctx)
    time.sleep(seconds)
    effect("end", ctx)
    return "woke"


@flow(name="hang")
def hang_flow(seconds: float) -> str:
    return hang(seconds)


@step(timeout="400ms")
async def hang_async(ctx: Context, seconds: float) -> str:
    effect("start", ctx)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        effect("cancelled", ctx)
        raise
    return "woke"


@flow(name="hang_async")
def hang_async_flow(seconds: float) -> str:
    return hang_async(seconds)


@step
def slow(ctx: Context, n: int, seconds: float) -> int:
    effect("start", ctx)
    time.sleep(seconds)
    effect("end", ctx)
    return n


@flow(name="slow")
def slow_flow(seconds: float) -> int:
    return slow(1, seconds)


@flow(name="slows")
def slows(items: list[int], seconds: float) -> list[int]:
    return each(slow, items, seconds=seconds)


@step
def until_cancelled(ctx: Context) -> str:
    effect("start", ctx)
    end = time.monotonic() + 30
    while time.monotonic() < end and not ctx.cancelled:
        ctx.progress(1, 2, "waiting")
        time.sleep(0.02)
    effect("cancelled" if ctx.cancelled else "end", ctx)
    return "stopped"


@flow(name="patient")
def patient() -> str:
    return until_cancelled()


@step(transactional=True, retries=1, backoff=[timedelta(milliseconds=50)])
def pay(ctx: Context, amount: int, fail_first: bool) -> int:
    effect("start", ctx)
    ctx.tx.execute(
        text("INSERT INTO test_payments (key, amount) VALUES (:key, :amount)"),
        {"key": ctx.idempotency_key, "amount": amount},
    )
    if fail_first and ctx.attempt == 1:
        raise RuntimeError("after the insert")
    return amount


@flow(name="payment")
def payment(amount: int, fail_first: bool) -> int:
    return double(pay(amount, fail_first))


@step
def suicide(ctx: Context, times: int) -> int:
    effect("start", ctx)
    if ctx.attempt <= times:
        os.kill(os.getpid(), 9)
    return ctx.attempt


@step
def count(times: int) -> int:
    return times


@flow(name="later_suicide")
def later_suicide(times: int) -> int:
    """The step that dies is not the one of the message, which led to it."""
    return suicide(count(times))


@flow(name="suicide")
def suicide_flow(times: int) -> int:
    return suicide(times)
