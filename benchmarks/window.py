"""One program that starts runs one by one and waits for each. Peers' drivers import this under their own Python, so it
needs the standard library only."""

from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

OPEN: Final = 64
"""How many runs are open at a time."""
T = TypeVar("T")


def one_by_one(count: int, start: Callable[[int], T], wait: Callable[[T], object]) -> None:
    """Start `count` runs, one call each, and wait for each in the order of their starts; never more than OPEN open."""
    opened: deque[T] = deque()
    for value in range(count):
        if len(opened) == OPEN:
            wait(opened.popleft())
        opened.append(start(value))
    while opened:
        wait(opened.popleft())
