"""A day's work: short steps, long ones, and what is only due later."""

import time
from datetime import UTC, datetime, timedelta

from orchestrator import Context, Every, Schedule, after, each, flow, sleep, step


@step
def work(n: int, seconds: float) -> int:
    time.sleep(seconds)
    return n


@flow
def batch(count: list[int], seconds: float) -> list[int]:
    return each(work, count, seconds=seconds)


@flow
def doze(n: int) -> int:
    with after(sleep("4s")):
        return work(n, seconds=0.1)


@step(retries=1, backoff=[timedelta(seconds=4)])
def stumble(ctx: Context) -> int:
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
    return ctx.attempt


@flow
def stumbling() -> int:
    return stumble()


@flow(schedules=[Schedule(Every("4s"), key="tick", start=datetime(2026, 1, 1, tzinfo=UTC))])
def ticking(n: int = 1) -> int:
    return work(n, seconds=0.1)
