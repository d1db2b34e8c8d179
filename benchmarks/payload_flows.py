"""A result of a megabyte that one step gives and the next one takes."""

import random

from orchestrator import flow, step


@step
def make(size: int) -> str:
    """Text that cannot be made much shorter."""
    return random.Random(size).randbytes(size // 2).hex()


@step
def size_of(text: str) -> int:
    return len(text)


@flow(name="large")
def large(size: int) -> int:
    return size_of(make(size))
