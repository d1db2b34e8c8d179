"""Flows that mostly wait: for a time, for their schedule, for their next attempt."""

from datetime import UTC, datetime, timedelta

from orchestrator import Every, Schedule, after, flow, sleep, step


@step
def rise(n: int) -> int:
    return n + 1


@flow
def dozing(n: int) -> int:
    with after(sleep("2s")):
        return rise(n)


@step(retries=3, backoff=[timedelta(seconds=2)])
def try_again(n: int) -> int:
    return n


@flow
def stumbling(n: int) -> int:
    return try_again(n)


@flow(schedules=[Schedule(Every("2s"), key="tick", start=datetime(2026, 1, 1, tzinfo=UTC))])
def ticking(n: int = 1) -> int:
    return rise(n)
