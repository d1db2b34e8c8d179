"""The flows of the rows and messages beside. A later release adds files of its own, and leaves these as they are."""

from orchestrator import Context, Every, Schedule, each, flow, step


@step(retries=2, backoff=["1s"])
def add(n: int, by: int = 1) -> int:
    return n + by


@step(transactional=True, queue="slow")
def keep(ctx: Context, n: int) -> int:
    ctx.tx.exec_driver_sql("SELECT 1")
    return n


@flow
def line(n: int, by: int = 1) -> int:
    """A chain, with a default."""
    return keep(add(add(n, by=by)))


@step
def numbers(n: int) -> list[int]:
    return list(range(n))


@step
def total(found: list[int]) -> int:
    return sum(found)


@flow(deadline="36500d", tags=["wide"], idempotency_ttl="36500d")
def wide(n: int) -> int:
    """A loop with a window, and a join."""
    return total(each(add, numbers(n), concurrency=2, by=10))


@flow(schedules=[Schedule(Every("36500d"), key="seldom", input={"n": 3})])
def planned(n: int) -> int:
    return add(n)
