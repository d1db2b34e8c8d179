"""Loops that are measured: one step for each item, and three. Their steps do nothing."""

from benchmarks.flows import add_one, fan, first, numbers, second, third, total
from orchestrator import block, each, flow

__all__ = ["add_one", "fan"]


@block
def three(value: int) -> int:
    return third(second(first(value)))


@flow(name="called")
def called(value: int) -> int:
    return third(value)


@flow(name="calls")
def calls(count: int) -> int:
    """A list, a run per item, one join."""
    return total(each(called, numbers(count)))


@flow(name="items")
def items(count: int) -> int:
    """A list, three steps per item, one join."""
    return total(each(three, numbers(count)))
