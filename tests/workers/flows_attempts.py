"""Handlers that end in ways of their own: by exits, foreign errors, results and reports that cannot be stored."""

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from orchestrator import Context, RetryAfter, each, flow, step

SQLITE = create_engine("sqlite://")


def wait_for_the_gate() -> None:
    while not os.path.exists(os.environ["TEST_GATE"]):
        time.sleep(0.02)


def ask_another_database() -> None:
    with SQLITE.connect() as other:
        other.execute(text("SELECT * FROM no_such_table"))


@step(transactional=True)
def book(ctx: Context) -> str:
    ctx.tx.execute(text("INSERT INTO test_bookings (key, attempt) VALUES (:key, :attempt)"), _row(ctx))
    if ctx.attempt == 1:
        Path(os.environ["TEST_GATE"] + ".begun").touch()
        wait_for_the_gate()
    return "booked"


def _row(ctx: Context) -> dict[str, Any]:
    return {"key": ctx.idempotency_key, "attempt": ctx.attempt}


@flow(name="booking")
def booking() -> str:
    return book()


@step(transactional=True, retries=1, backoff=["1h"])
def foreign(ctx: Context) -> None:
    ask_another_database()


@step
def fail_late(ctx: Context) -> None:
    Path(os.environ["TEST_GATE"] + f".begun{ctx.attempt}").touch()
    wait_for_the_gate()
    raise ValueError("late")


@flow(name="failing_late")
def failing_late() -> None:
    return fail_late()


@flow(name="foreign")
def foreign_flow() -> None:
    return foreign()


@step(retries=1, backoff=["1h"])
def foreign_plain() -> None:
    ask_another_database()


@flow(name="foreign_plain")
def foreign_plain_flow() -> None:
    return foreign_plain()


@step(transactional=True)
def spoil(ctx: Context) -> None:
    """Leaves its transaction in error, and says nothing of it."""
    try:
        ctx.tx.execute(text("SELECT * FROM no_such_table"))
    except Exception as exc:
        logging.getLogger(__name__).info("ignored %s", type(exc).__name__)


@flow(name="spoiling")
def spoiling() -> None:
    return spoil()


@step(transactional=True)
def write(ctx: Context, n: int) -> int:
    time.sleep(0.05)
    return n


@flow(name="writing")
def writing(numbers: list[int]) -> list[int]:
    return each(write, numbers)


class Shy(Exception):
    def __str__(self) -> str:
        raise KeyError("order")


@step
def fail(how: str) -> str:
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "shy":
        raise Shy
    return "x" * 100


@step
async def fail_async(how: str) -> str:
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "inner exit":
        await asyncio.create_task(fail_async.fn("exit"))
    if how == "stop":
        asyncio.get_running_loop().stop()
    if how == "inner cancel":
        task = asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0.02)
        task.cancel("part 3 was refused")
        await task
    return how


@flow(name="failing")
def failing(how: str) -> str:
    return fail(how)


@flow(name="failing_async")
def failing_async(how: str) -> str:
    return fail_async(how)


@step
def report(ctx: Context, what: str) -> None:
    ctx.progress({"nan": float("nan"), "decimal": Decimal("0.5"), "set": {1}, "good": 1}[what], 2)  # type: ignore[arg-type]


@flow(name="reporting")
def reporting(what: str) -> None:
    return report(what)


@step
def smuggle(ctx: Context) -> None:
    """Past `ctx.progress`, as nobody should."""
    from orchestrator import Progress

    ctx.signals.progress = Progress(Decimal("0.5"))  # type: ignore[arg-type]
    wait_for_the_gate()


@step
def honest() -> None:
    wait_for_the_gate()


@flow(name="smuggling")
def smuggling() -> None:
    return smuggle()


@flow(name="honest")
def honest_flow() -> None:
    return honest()


@step(timeout="1s")
def convert(seconds: int) -> None:
    subprocess.run(["sleep", str(seconds)], check=True)


@flow(name="converting")
def converting(seconds: int) -> None:
    return convert(seconds)


@step
def absolute(numbers: list[int]) -> list[int]:
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(abs, numbers))
    with multiprocessing.Pool(2) as other:
        assert other.map(abs, numbers) == found
    return found


@flow(name="computing")
def computing(numbers: list[int]) -> list[int]:
    return absolute(numbers)


@step(retries=1, backoff=["1h"])
def limited(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise RetryAfter("200ms", "429: too many requests")
    return ctx.attempt


@step(transactional=True, retries=1, backoff=["1h"])
def limited_tx(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise RetryAfter(0.2)
    return ctx.attempt


@step(retries=1, backoff=["1h"])
async def limited_async(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise RetryAfter(0.2)
    return ctx.attempt


@step
def limited_once() -> None:
    raise RetryAfter(0.2)


@flow(name="limits")
def limits() -> list[int]:
    return [limited(), limited_tx(), limited_async()]


@flow(name="limits_once")
def limits_once() -> None:
    return limited_once()


@step
def letter(rows: int) -> dict[str, Any]:
    return {"rows": list(range(rows)), "text": os.urandom(100_000).hex()}


@step
def send(n: int, text: str) -> int:
    return n + len(text)


@flow(name="mailing")
def mailing(rows: int) -> list[int]:
    written = letter(rows)
    return each(send, written["rows"], text=written["text"])
