"""The flows that are measured. Their steps do nothing, so what is measured is the orchestrator."""

import os
import time

from orchestrator import each, flow, step

SLOW_STEP_S = float(os.environ.get("BENCH_SLOW_STEP_S", "0.02"))


@step
def first(value: int) -> int:
    return value + 1


@step
def second(value: int) -> int:
    return value + 1


@step
def third(value: int) -> int:
    return value + 1


@step
def fourth(value: int) -> int:
    return value + 1


@step
def fifth(value: int) -> int:
    return value + 1


@flow(name="chain")
def chain(value: int) -> int:
    """Five steps, each with the result of the one before."""
    return fifth(fourth(third(second(first(value)))))


@flow(name="other", queue="other")
def other(value: int) -> int:
    """The same on a queue of its own."""
    return fifth(fourth(third(second(first(value)))))


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def add_one(value: int) -> int:
    return value + 1


@step
def total(values: list[int]) -> int:
    return sum(values)


@flow(name="fan")
def fan(count: int) -> int:
    """A list, one step per item, one join."""
    return total(each(add_one, numbers(count)))


@step
def slow(value: int) -> int:
    time.sleep(SLOW_STEP_S)
    return value


@flow(name="backlog", queue="backlog")
def backlog(value: int) -> int:
    """One slow step."""
    return slow(value)
