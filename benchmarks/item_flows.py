"""Loops that are measured: one step for each item, and three. Their steps do nothing."""

from benchmarks.flows import add_one, fan, first, numbers, second, third, total
from orchestrator import block, each, flow

__all__ = ["add_one", "fan"]


@block
def three(value: int) -> int:
    return third(second(first(value)))


@flow(name="items")
def items(count: int) -> int:
    """A list, three steps per item, one join."""
    return total(each(three, numbers(count)))
