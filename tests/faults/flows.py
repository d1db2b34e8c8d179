"""The flow that every fault is tried on: a chain, a fan-out with a window, joins, a retry and a transactional step."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from orchestrator import Context, NotYet, Poll, after, block, each, flow, sleep, step, wait_for_signal
from tests.support import nemesis

if nemesis.VARIABLE in os.environ:
    nemesis.arm()
if "TEST_COPIES" in os.environ:
    nemesis.multiply(int(os.environ["TEST_COPIES"]))

FLAKY = [timedelta(milliseconds=100)]


def write(kind: str, ctx: Context) -> None:
    """One line of the effects log, written whole."""
    words = (kind, socket.gethostname(), os.getpid(), time.monotonic_ns(), ctx.run_id, ctx.step_key, ctx.attempt)
    line = " ".join(map(str, (*words, ctx.idempotency_key))) + "\n"
    handle = os.open(os.environ["TEST_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def send(ctx: Context) -> None:
    """An effect on a target that takes each key once, like a payment provider."""
    target = Path(os.environ["TEST_TARGET"]) / ctx.idempotency_key
    target.touch(exist_ok=True)


def failed_before(ctx: Context) -> bool:
    """False the first time it is asked about this step."""
    note = Path(os.environ["TEST_TARGET"]) / f"{ctx.idempotency_key}:failed"
    try:
        note.touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def work(ctx: Context, plan: dict[str, str], seconds: float = 0.0) -> None:
    """What every handler does. `plan` maps a step to `point=fault` that its first attempt arms, or to `nap=seconds`."""
    write("start", ctx)
    if ctx.attempt == 1 and ctx.step_key in plan:
        for one in plan[ctx.step_key].split():
            point, _, do = one.partition("=")
            if point == "nap":
                time.sleep(float(do))
                continue
            nemesis.order(Path(os.environ[nemesis.VARIABLE]), point, do, "any", os.getpid())
    send(ctx)
    time.sleep(seconds)
    nemesis.strike("handler.middle")
    write("end", ctx)


@step
def first(ctx: Context, width: int, plan: dict[str, str]) -> list[int]:
    work(ctx, plan)
    return list(range(width))


@step
def second(ctx: Context, items: list[int], plan: dict[str, str], seconds: float) -> int:
    work(ctx, plan, seconds)
    return len(items)


@step(retries=1, backoff=FLAKY)
def flaky(ctx: Context, n: int, plan: dict[str, str]) -> int:
    """Fails once."""
    work(ctx, plan)
    if failed_before(ctx):
        return n
    raise ConnectionError("not yet")


@step
def part(ctx: Context, n: int, plan: dict[str, str], seconds: float = 0.0) -> int:
    work(ctx, plan, seconds)
    return n * n


@step
def total(ctx: Context, parts: list[int], plan: dict[str, str]) -> int:
    work(ctx, plan)
    return sum(parts)


@step(transactional=True)
def pay(ctx: Context, amount: int, bonus: int, plan: dict[str, str]) -> int:
    ctx.tx.execute(
        text("INSERT INTO test_payments (key, attempt) VALUES (:key, :attempt)"),
        {"key": ctx.idempotency_key, "attempt": ctx.attempt},
    )
    work(ctx, plan)
    return amount + bonus


@step
def last(ctx: Context, paid: int, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return paid + 1


@flow(name="mix")
def mix(width: int, plan: dict[str, str], seconds: float = 0.0) -> int:
    items = first(width, plan)
    bonus = flaky(second(items, plan, seconds), plan)
    amount = total(each(part, items, concurrency=2, plan=plan), plan)
    return last(pay(amount, bonus, plan), plan)


@flow(name="wide")
def wide(width: int, plan: dict[str, str], seconds: float = 0.0) -> int:
    return total(each(part, first(width, plan), plan=plan, seconds=seconds), plan)


@step
def lone(ctx: Context, plan: dict[str, str], seconds: float = 0.0) -> int:
    work(ctx, plan, seconds)
    return 1


@flow(name="single")
def single(plan: dict[str, str], seconds: float = 0.0) -> int:
    return lone(plan, seconds)


@step
def left(ctx: Context, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return 1


@step
def right(ctx: Context, plan: dict[str, str]) -> int:
    """Fails for good in its first epoch."""
    work(ctx, plan)
    if failed_before(ctx):
        return 2
    raise ValueError("an operator must look")


@flow(name="fork")
def fork(plan: dict[str, str]) -> list[int]:
    return [left(plan), right(plan)]


@step
def heeding(ctx: Context, seconds: float) -> str:
    """Works until it is told to stop."""
    write("start", ctx)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not ctx.cancelled:
        time.sleep(0.02)
    write("cancelled" if ctx.cancelled else "end", ctx)
    return "stopped"


@flow(name="heedful")
def heedful(plan: dict[str, str], seconds: float) -> str:
    return heeding(seconds)


@step(poll=Poll(every="1s", timeout="5m"))
def ready(ctx: Context, plan: dict[str, str]) -> int:
    """At the third look."""
    work(ctx, plan)
    assert ctx.poll is not None
    if ctx.poll.number < 3:
        raise NotYet("not there")
    return ctx.poll.number


@flow(name="polling")
def polling(plan: dict[str, str]) -> int:
    return ready(plan)


@step
def long(ctx: Context, plan: dict[str, str]) -> str:
    work(ctx, plan)
    return "x" * 5000


@step
def measured(ctx: Context, plan: dict[str, str], text: str) -> int:
    work(ctx, plan)
    return len(text)


@flow(name="offloading")
def offloading(plan: dict[str, str]) -> int:
    return measured(plan, long(plan))


@step(transactional=True)
def pay_once(ctx: Context, plan: dict[str, str]) -> int:
    ctx.tx.execute(
        text("INSERT INTO test_unique_payments (key, attempt) VALUES (:key, :attempt)"),
        {"key": ctx.idempotency_key, "attempt": ctx.attempt},
    )
    work(ctx, plan)
    return 1


@flow(name="unique")
def unique(plan: dict[str, str]) -> int:
    return pay_once(plan)


@step
def shipped(ctx: Context, plan: dict[str, str], paid: int) -> int:
    work(ctx, plan)
    return paid


@flow(name="paying")
def paying(plan: dict[str, str]) -> int:
    return shipped(plan, wait_for_signal(int, name="paid", timeout="1h"))


@flow(name="billing")
def billing(plan: dict[str, str]) -> int:
    """A worker opens the wait."""
    return shipped(plan, wait_for_signal(int, name="paid", timeout="1h", after=[lone(plan)]))


@step
def woken(ctx: Context, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return 1


@flow(name="napping")
def napping(plan: dict[str, str], seconds: float = 1.0) -> int:
    """Three waits at once, and what comes after all of them."""
    naps = [sleep(seconds), sleep(seconds, key="second_nap"), sleep(seconds, after=[lone(plan)], key="late_nap")]
    with after(*naps):
        return woken(plan)


@step
def picked(ctx: Context, n: int, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return n


@step
def packed(ctx: Context, n: int, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return n * n


@step
def sealed(ctx: Context, n: int, plan: dict[str, str]) -> int:
    work(ctx, plan)
    return n


@step
def loaded(ctx: Context, parcels: list[int], plan: dict[str, str]) -> int:
    work(ctx, plan)
    return sum(parcels)


@block
def bill(n: int, plan: dict[str, str]) -> int:
    done = picked(n, plan)
    return shipped(plan, wait_for_signal(int, name="paid", key=n, timeout="1h", after=[done]))


@flow(name="bills")
def bills(plan: dict[str, str]) -> int:
    """A wait for each item."""
    return loaded(each(bill, [1, 2], plan=plan), plan)


@step
def checked(ctx: Context, n: int, plan: dict[str, str]) -> int:
    """Fails for one of three items."""
    work(ctx, plan)
    if n == 2:
        raise ValueError(f"{n} is refused")
    return n


@block
def order(n: int, plan: dict[str, str]) -> int:
    done = checked(n, plan)
    return shipped(plan, wait_for_signal(int, name="paid", key=n, timeout="1h", after=[done]))


@flow(name="stopping")
def stopping(plan: dict[str, str]) -> int:
    """A loop that stops while items of it wait."""
    return loaded(each(order, [0, 1, 2], plan=plan, stop_on_failure=True), plan)


@block
def parcel(n: int, plan: dict[str, str]) -> int:
    return sealed(packed(picked(n, plan), plan), plan)


@flow(name="packing")
def packing(width: int, plan: dict[str, str]) -> int:
    """A loop of which each item runs three steps, two items at a time."""
    return loaded(each(parcel, first(width, plan), concurrency=2, plan=plan), plan)
